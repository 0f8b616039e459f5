/* The benchmark's peer: what the data path does with `--mirror packet`, in C.
 *
 * It parses Ethernet with up to 2 VLAN tags, IPv4, IPv6, TCP and its options, holds a cookie against up to 4 keys
 * with SipHash-2-4, and counts by port and by the size of the data. It has no extension headers of IPv6, no
 * sources and no events. Written for this comparison.
 */
#include "bpf.h"

#define SWAP16(value) __builtin_bswap16(value)

struct keys {
	u64 count;
	u64 key[4][2];
};

/* The order of the benchmark's `PeerCounts`. */
struct counters {
	u64 syns, with_data, data_bytes, requests, passive, alt_key, failed, unused;
};

struct map SEC("maps") KEYS = { ARRAY, 4, sizeof(struct keys), 1, 0 };
struct map SEC("maps") COUNTERS = { PER_CPU_ARRAY, 4, sizeof(struct counters), 65536, 0 };
struct map SEC("maps") SIZES = { PER_CPU_ARRAY, 4, 16 * sizeof(u64), 1, 0 };

struct addresses {
	u64 word[4];
	int words;
};

struct option {
	int present, length;
	u64 cookie;
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
	if (length & 1)
		return;
	found->present = length == 0 || (length >= 4 && length <= 16);
	found->length = length;
	if (length == 8 && (void *)(cookie + 8) <= end)
		found->cookie = *(u64 *)cookie;
}

INLINE struct option options(u8 *tcp, u32 length, void *end)
{
	struct option found = { 0, 0, 0 };
	u64 unknown = *(u32 *)(tcp + 4);
	u64 at = 20;

	for (int round = 0; round < 40; round++) {
		FORGET(at, unknown);
		at &= 63;
		u8 *option = tcp + at;
		if (at + 1 >= length || (void *)(option + 2) > end)
			break;
		u8 kind = option[0], size = option[1];
		if (kind == 0)
			break;
		if (kind == 1) {
			at++;
			continue;
		}
		if (size < 2 || at + size > length)
			break;
		if (kind == 34)
			take(&found, option + 2, size - 2, end);
		else if (kind == 254 && size >= 4 && (void *)(option + 4) <= end &&
			 *(u16 *)(option + 2) == SWAP16(0xf989))
			take(&found, option + 4, size - 4, end);
		at += size;
	}
	return found;
}

INLINE void classify(struct counters *counters, const struct option *option,
		     const struct addresses *addresses)
{
	u32 zero = 0;
	struct keys *keys;

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
}

INLINE void size(u32 bytes)
{
	u32 zero = 0, bucket = 0;
	u64 *sizes = map_lookup(&SIZES, &zero);

	if (!sizes)
		return;
	for (u32 left = bytes; left && bucket < 15; left >>= 1)
		bucket++;
	sizes[bucket & 15]++;
}

INLINE void syn(u8 *tcp, u32 length, struct addresses *addresses, void *end)
{
	u32 header, data, port;
	struct counters *counters;
	struct option option;

	if ((void *)(tcp + 20) > end || (tcp[13] & 0x17) != 0x02)
		return;
	header = (tcp[12] >> 4) * 4;
	if (header < 20 || header > length)
		return;
	data = length - header;
	port = SWAP16(*(u16 *)(tcp + 2));
	counters = map_lookup(&COUNTERS, &port);
	if (!counters)
		return;
	counters->syns++;
	if (data) {
		counters->with_data++;
		counters->data_bytes += data;
		size(data);
	}
	option = options(tcp, header, end);
	classify(counters, &option, addresses);
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
		syn(packet + header, total - header, &addresses, end);
	} else if (type == SWAP16(0x86dd)) {
		if ((void *)(packet + 40) > end || packet[6] != 6)
			return PASS;
		addresses.word[0] = *(u64 *)(packet + 8);
		addresses.word[1] = *(u64 *)(packet + 16);
		addresses.word[2] = *(u64 *)(packet + 24);
		addresses.word[3] = *(u64 *)(packet + 32);
		addresses.words = 4;
		syn(packet + 40, SWAP16(*(u16 *)(packet + 4)), &addresses, end);
	}
	return PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
