/* Puts a frame back to what it was, and jumps to the program that is measured: one that changes the frame meets
 * the same one every time.
 */
#include "bpf.h"

/* Most words of 8 bytes that are put back. */
enum { WORDS = 16 };

/* The frame's length, how many whole words of it are put back, and the words. */
struct frame {
	u64 len, words, bytes[WORDS];
};

struct map SEC("maps") FRAME = { ARRAY, 4, sizeof(struct frame), 1, 0 };
struct map SEC("maps") MEASURED = { PROGRAMS, 4, 4, 1, 0 };

SEC("xdp.frags") int restore(struct context *context)
{
	u32 first = 0;
	struct frame *frame = map_lookup(&FRAME, &first);
	u8 *start = (u8 *)(long)context->data, *end = (u8 *)(long)context->data_end;

	if (!frame)
		return ABORTED;
	/* Always, so that it is in all figures. */
	if (adjust_tail(context, (long)frame->len - (end - start)))
		return ABORTED;
	for (int i = 0; i < WORDS; i++) {
		u64 *word = (u64 *)(long)context->data + i;

		if (i >= frame->words || word + 1 > (u64 *)(long)context->data_end)
			break;
		*word = frame->bytes[i];
	}
	tail_call(context, &MEASURED, 0);
	return ABORTED;
}

SEC("xdp.frags") int empty(struct context *context)
{
	return PASS;
}
