/* Puts a frame back to what it was, and jumps to the program that is measured: one that changes the frame meets
 * the same one every time; or several frames in turn. `SECTION` is the kind of program.
 */
#define PUTS_BACK
#include "bpf.h"

struct map SEC("maps") MEASURED = { PROGRAMS, 4, 4, 1, 0 };

SEC(SECTION) int restore(struct context *context)
{
	if (put_back(context))
		tail_call(context, &MEASURED, 0);
	return ABORTED;
}

SEC(SECTION) int empty(struct context *context)
{
	return PASS;
}
