/* Puts a frame back to what it was, and jumps to the program that is measured: one that changes the frame meets
 * the same one every time.
 */
#define PUTS_BACK
#include "bpf.h"

struct map SEC("maps") MEASURED = { PROGRAMS, 4, 4, 1, 0 };

SEC("xdp.frags") int restore(struct context *context)
{
	if (put_back(context))
		tail_call(context, &MEASURED, 0);
	return ABORTED;
}

SEC("xdp.frags") int empty(struct context *context)
{
	return PASS;
}
