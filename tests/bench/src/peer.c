/* The benchmark's peer: what the data path does with `--mirror packet`, in C.
 *
 * It parses Ethernet with up to 2 VLAN tags, IPv4, IPv6, TCP and its options, holds a cookie against up to 4 keys
 * with SipHash-2-4, and counts by port, by reason and by the size of the data. It has the same tricks: a Linux
 * client's options are read at once, a port has a slot of counters, a word of switches says what else is on, and
 * a reader of events is asked for. It has no extension headers of IPv6, no signatures, no sources, and neither guard nor
 * policies behind its switches. Written for this comparison.
 */
#include "bpf.h"

#define SWAP16(value) __builtin_bswap16(value)

struct keys {
	u64 count;
	u64 key[4][2];
};

/* Why a SYN that asked for Fast Open does not get it. */
enum { BAD_COOKIE, BAD_LENGTH, MALFORMED };

/* Begins in the order of the benchmark's `PeerCounts`. */
struct counters {
	u64 syns, with_data, data_bytes, requests, passive, alt_key, failed, malformed, reasons[4], port;
};

/* Slots of counters; slot 0 counts the ports that got none. */
enum { SLOTS = 1024 };

struct map SEC("maps") KEYS = { ARRAY, 4, sizeof(struct keys), 1, 0 };
struct map SEC("maps") SWITCHES = { ARRAY, 4, sizeof(u64), 1, 0 };
struct map SEC("maps") EVENT_GATE = { ARRAY, 4, sizeof(u64), 1, 0 };
struct map SEC("maps") OTHER_PROGRAMS = { PROGRAMS, 4, 4, 1, 0 };
struct map SEC("maps") PORT_SLOTS = { ARRAY, 4, sizeof(u64), 65536, 0 };
struct map SEC("maps") SLOTS_TAKEN = { ARRAY, 4, sizeof(u64), 1, 0 };
struct map SEC("maps") COUNTERS = { PER_CPU_ARRAY, 4, sizeof(struct counters), SLOTS, 0 };
struct map SEC("maps") SIZES = { PER_CPU_ARRAY, 4, 16 * sizeof(u64), 1, 0 };

struct addresses {
	u64 word[4];
	int words;
};

struct option {
	u64 present, length, malformed, cookie;
};

/* The verifier forgets what it knew of the value: every round of a loop then looks alike to it. */
#define FORGET(value, unknown) asm volatile("%0 ^= %1; %0 ^= %1" : "+r"(value) : "r"(unknown))

#define ROTATE(x, bits) (((x) << (bits)) | ((x) >> (64 - (bits))))

INLINE void sip_round(u64 v[4])
{
	v[0] += v[1], v[1] = ROTATE(v[1], 13) ^ v[0], v[0] = ROTATE(v[0], 32);
	v[2] += v[3], v[3] = ROTATE(v[3], 16) ^ v[2];
	v[0] += v[3], v[3] = ROTATE(v[3], 21) ^ v[0];
	v[2] += v[1], v[1] = ROTATE(v[1], 17) ^ v[2], v[2] = ROTATE(v[2], 32);
}

INLINE void sip_word(u64 v[4], u64 word)
{
	v[3] ^= word;
	sip_round(v);
	sip_round(v);
	v[0] ^= word;
}

INLINE u64 siphash(const u64 key[2], const struct addresses *addresses)
{
	u64 v[4] = {
		key[0] ^ 0x736f6d6570736575ull, key[1] ^ 0x646f72616e646f6dull,
		key[0] ^ 0x6c7967656e657261ull, key[1] ^ 0x7465646279746573ull,
	};
	sip_word(v, addresses->word[0]);
	if (addresses->words == 4) {
		sip_word(v, addresses->word[1]);
		sip_word(v, addresses->word[2]);
		sip_word(v, addresses->word[3]);
	}
	sip_word(v, (u64)addresses->words * 8 << 56);
	v[2] ^= 0xff;
	sip_round(v);
	sip_round(v);
	sip_round(v);
	sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* Linux's rules: the last option of even length wins, one of an impossible even length erases it. */
INLINE void take(struct option *found, u8 *cookie, int length, void *end)
{
	if (length & 1) {
		found->malformed = 1;
		return;
	}
	found->present = length == 0 || (length >= 4 && length <= 16);
	found->malformed |= !found->present;
	found->length = length;
	if (length == 8 && (void *)(cookie + 8) <= end)
		found->cookie = *(u64 *)cookie;
}

/* The list of a Linux client, but for its values: MSS, SACK permitted, timestamps, a no-operation, window scale. */
#define LINUX_FIRST 0x0a08020400000402ull
#define LINUX_FIRST_MASK 0xffffffff0000ffffull
#define LINUX_LAST 0x0003030100000000ull
#define LINUX_LAST_MASK 0x00ffffff00000000ull
enum { LINUX_LEN = 20, REQUEST_LEN = 4, COOKIE_LEN = 12, PADDING = 0x0101 };

/* Reads that list, and Fast Open's option and its padding behind it; how many bytes of the options were read. */
INLINE u64 linux_options(u8 *list, u32 length, void *end, struct option *found)
{
	u32 rest = length - LINUX_LEN;
	u8 *tail = list + LINUX_LEN;

	if (length < LINUX_LEN || (void *)tail > end ||
	    (*(u64 *)list & LINUX_FIRST_MASK) != LINUX_FIRST ||
	    (*(u64 *)(tail - 8) & LINUX_LAST_MASK) != LINUX_LAST)
		return 0;
	if (rest == REQUEST_LEN && (void *)(tail + REQUEST_LEN) <= end &&
	    *(u16 *)tail == SWAP16(34 << 8 | 2) && *(u16 *)(tail + REQUEST_LEN - 2) == PADDING) {
		found->present = 1;
		return length;
	}
	if (rest == COOKIE_LEN && (void *)(tail + COOKIE_LEN) <= end &&
	    *(u16 *)tail == SWAP16(34 << 8 | 10) && *(u16 *)(tail + COOKIE_LEN - 2) == PADDING) {
		found->present = 1;
		found->length = 8;
		found->cookie = *(u64 *)(tail + 2);
		return length;
	}
	return LINUX_LEN;
}

INLINE struct option options(u8 *tcp, u64 length, void *end)
{
	struct option found = { 0, 0, 0, 0 };
	u64 unknown = *(u32 *)(tcp + 4);
	u64 at = 20 + linux_options(tcp + 20, length - 20, end, &found);

	if (at >= length)
		goto done;
	FORGET(length, unknown);
	length &= 63;
	for (int round = 0; round < 40; round++) {
		FORGET(at, unknown);
		FORGET(found.present, unknown);
		FORGET(found.length, unknown);
		FORGET(found.malformed, unknown);
		at &= 63;
		u8 *option = tcp + at;
		if (at + 1 >= length || (void *)(option + 2) > end)
			break;
		u8 kind = option[0], size = option[1];
		if (kind == 0)
			break;
		if (kind == 1) {
			at += size == 1 ? 2 : 1;
			continue;
		}
		if (size < 2 || at + size > length) {
			found.malformed = 1;
			break;
		}
		if (kind == 34)
			take(&found, option + 2, size - 2, end);
		else if (kind == 254 && size >= 4 && (void *)(option + 4) <= end &&
			 *(u16 *)(option + 2) == SWAP16(0xf989))
			take(&found, option + 4, size - 4, end);
		at += size;
	}
done:
	FORGET(found.present, unknown);
	FORGET(found.length, unknown);
	FORGET(found.malformed, unknown);
	return found;
}

INLINE void classify(struct counters *counters, const struct option *option,
		     const struct addresses *addresses)
{
	u32 zero = 0;
	struct keys *keys;

	if (option->malformed) {
		counters->malformed++;
		counters->reasons[MALFORMED]++;
	}
	if (!option->present)
		return;
	if (option->length == 0) {
		counters->requests++;
		return;
	}
	keys = map_lookup(&KEYS, &zero);
	if (!keys)
		return;
	if (option->length == 8) {
#pragma clang loop unroll(disable)
		for (u32 index = 0; index < 4; index++) {
			if (index >= keys->count)
				break;
			if (siphash(keys->key[index], addresses) == option->cookie) {
				counters->passive++;
				if (index)
					counters->alt_key++;
				return;
			}
		}
	}
	counters->failed++;
	counters->reasons[option->length == 8 ? BAD_COOKIE : BAD_LENGTH]++;
}

INLINE void size(u64 bytes)
{
	u32 zero = 0, bucket = 0;
	u64 *sizes = map_lookup(&SIZES, &zero);

	if (!sizes)
		return;
	for (u64 left = bytes; left && bucket < 15; left >>= 1)
		bucket++;
	sizes[bucket & 15]++;
}

/* The slot of a port, taken with its first SYN. */
INLINE u32 slot_of(u32 port)
{
	u32 zero = 0;
	u64 taken, *slot = map_lookup(&PORT_SLOTS, &port), *count;

	if (!slot)
		return 0;
	taken = *(volatile u64 *)slot;
	if (taken || !port)
		return taken;
	count = map_lookup(&SLOTS_TAKEN, &zero);
	if (!count || *(volatile u64 *)count >= SLOTS - 1)
		return 0;
	taken = __sync_fetch_and_add(count, 1) + 1;
	if (taken > SLOTS - 1)
		return 0;
	return __sync_val_compare_and_swap(slot, 0, taken) ?: taken;
}

/* Nonzero while a reader of events is there. What the caller then calls does not exist: nobody reads here. */
INLINE int reports(void)
{
	u32 zero = 0;
	u64 *until = map_lookup(&EVENT_GATE, &zero);

	return until && *(volatile u64 *)until;
}

INLINE void syn(struct context *context, u8 *tcp, u32 length, struct addresses *addresses, void *end)
{
	u32 header, port, slot, zero = 0;
	struct counters *counters;
	struct option option;
	u64 *switches, data, unknown;

	if ((void *)(tcp + 20) > end || (tcp[13] & 0x17) != 0x02)
		return;
	header = (tcp[12] >> 4) * 4;
	if (header < 20 || header > length)
		return;
	data = length - header;
	unknown = *(u32 *)(tcp + 4);
	FORGET(data, unknown);
	option = options(tcp, header, end);
	switches = map_lookup(&SWITCHES, &zero);
	port = SWAP16(*(u16 *)(tcp + 2));
	if (switches && *(volatile u64 *)switches)
		tail_call(context, &OTHER_PROGRAMS, 0);
	slot = slot_of(port);
	counters = map_lookup(&COUNTERS, &slot);
	if (!counters)
		return;
	if (slot)
		counters->port = port;
	counters->syns++;
	if (data) {
		counters->with_data++;
		counters->data_bytes += data;
		size(data);
	}
	classify(counters, &option, addresses);
	if ((data || option.present || option.malformed) && reports())
		tail_call(context, &OTHER_PROGRAMS, 0);
}

SEC("xdp.frags") int peer(struct context *context)
{
	u8 *packet = (void *)(long)context->data;
	void *end = (void *)(long)context->data_end;
	struct addresses addresses = { { 0 }, 0 };
	u16 type;

	if ((void *)(packet + 14) > end)
		return PASS;
	type = *(u16 *)(packet + 12);
	packet += 14;
#pragma clang loop unroll(full)
	for (int tags = 0; tags < 2; tags++) {
		if (type != SWAP16(0x8100) && type != SWAP16(0x88a8))
			break;
		if ((void *)(packet + 4) > end)
			return PASS;
		type = *(u16 *)(packet + 2);
		packet += 4;
	}
	if (type == SWAP16(0x0800)) {
		if ((void *)(packet + 20) > end || packet[9] != 6)
			return PASS;
		u32 header = (packet[0] & 15) * 4, total = SWAP16(*(u16 *)(packet + 2));
		/* No fragments. */
		if (header < 20 || total < header || *(u16 *)(packet + 6) & SWAP16(0x3fff))
			return PASS;
		addresses.word[0] = *(u64 *)(packet + 12);
		addresses.words = 1;
		syn(context, packet + header, total - header, &addresses, end);
	} else if (type == SWAP16(0x86dd)) {
		if ((void *)(packet + 40) > end || packet[6] != 6)
			return PASS;
		addresses.word[0] = *(u64 *)(packet + 8);
		addresses.word[1] = *(u64 *)(packet + 16);
		addresses.word[2] = *(u64 *)(packet + 24);
		addresses.word[3] = *(u64 *)(packet + 32);
		addresses.words = 4;
		syn(context, packet + 40, SWAP16(*(u16 *)(packet + 4)), &addresses, end);
	}
	return PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
