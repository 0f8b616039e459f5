/* The benchmark's flood: a frame is sent from another source each time, with another cookie if it has one.
 *
 * It is run by BPF_PROG_TEST_RUN with live frames, which it sends out of an interface. A frame comes again as whoever
 * had it left it (a SYN-ACK, where the guard did), so it is put back first. It is made one byte longer than it is to
 * be: the kernel asks for its length again only where that changes.
 */
#define PUTS_BACK
#include "bpf.h"

/* The interface's index; and 1 where frames have a cookie, else 0. */
struct settings {
	u32 interface, cookies;
};
struct map SEC("maps") SETTINGS = { ARRAY, 4, sizeof(struct settings), 1, 0 };

/* Where things are: Ethernet, IPv4 without options, TCP; the cookie is the first option, at an even offset. */
enum { IP_CHECKSUM = 24, SOURCE = 26, PORT = 34, TCP_CHECKSUM = 50, COOKIE = 56, END = 64 };

INLINE u16 changed(u16 checksum, u16 old, u16 new)
{
	u32 sum = (u16)~checksum + (u32)(u16)~old + new;

	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

INLINE void put(u8 *frame, int at, u16 new, int in_ip)
{
	u16 *word = (u16 *)(frame + at), old = *word;
	u16 *tcp = (u16 *)(frame + TCP_CHECKSUM), *ip = (u16 *)(frame + IP_CHECKSUM);

	*word = new;
	*tcp = changed(*tcp, old, new);
	if (in_ip)
		*ip = changed(*ip, old, new);
}

SEC("xdp") int flood(struct context *context)
{
	u32 first = 0;
	struct settings *settings = map_lookup(&SETTINGS, &first);
	u32 source = random();
	u8 *frame;

	if (!settings || !put_back(context))
		return ABORTED;
	frame = start_of(context);
	if (frame + END > end_of(context))
		return ABORTED;
	/* 198.18.0.0/15, which is for benchmarks (RFC 2544). */
	put(frame, SOURCE, 198 | (18 | (source & 1)) << 8, 1);
	put(frame, SOURCE + 2, source >> 16, 1);
	put(frame, PORT, random() | 0x4, 0);
	if (settings->cookies) {
		put(frame, COOKIE, random(), 0);
		put(frame, COOKIE + 2, random(), 0);
		put(frame, COOKIE + 4, random(), 0);
		put(frame, COOKIE + 6, random(), 0);
	}
	return redirect(settings->interface, 0);
}
