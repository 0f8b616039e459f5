/* Puts a frame back to what it was, and jumps to the program that is measured: one that rewrites the frame meets
 * the same one every time.
 */
#include "bpf.h"

/* The TCP checksum and the option, behind Ethernet and an IPv4 header without options. */
enum { FROM = 50, WORDS = 4 };

struct map SEC("maps") BYTES = { ARRAY, 4, 8 * WORDS, 1, 0 };
struct map SEC("maps") MEASURED = { PROGRAMS, 4, 4, 1, 0 };

SEC("xdp.frags") int restore(struct context *context)
{
	u8 *frame = (u8 *)(long)context->data;
	u32 first = 0;
	u64 *bytes = map_lookup(&BYTES, &first);

	if (!bytes || frame + FROM + 8 * WORDS > (u8 *)(long)context->data_end)
		return ABORTED;
	for (int i = 0; i < WORDS; i++)
		*(u64 *)(frame + FROM + 8 * i) = bytes[i];
	tail_call(context, &MEASURED, 0);
	return ABORTED;
}

SEC("xdp.frags") int empty(struct context *context)
{
	return PASS;
}
