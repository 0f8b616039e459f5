/* What the benchmark's programs share: what they need of the kernel, so that no header files are. */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))

static void *(*const map_lookup)(const void *map, const void *key) = (void *)1;
static u32 (*const random)(void) = (void *)7;
static long (*const tail_call)(void *context, void *programs, u32 index) = (void *)12;
static long (*const adjust_tail)(void *context, int delta) = (void *)65;
static long (*const redirect)(u32 interface, u64 flags) = (void *)23;

/* Kinds of maps, and verdicts. */
enum { ARRAY = 2, PROGRAMS = 3, PER_CPU_ARRAY = 6 };
enum { ABORTED = 0, PASS = 2 };

struct map {
	u32 type, key_size, value_size, max_entries, flags;
};

struct context {
	u32 data, data_end;
};

/* Read anew each time, or the verifier loses sight of the bounds. */
INLINE u8 *start_of(struct context *context)
{
	return (u8 *)(long)*(volatile u32 *)&context->data;
}

INLINE u8 *end_of(struct context *context)
{
	return (u8 *)(long)*(volatile u32 *)&context->data_end;
}

#ifdef PUTS_BACK
/* Most words of 8 bytes that are put back. */
enum { WORDS = 16 };

/* A frame's length, how many whole words of it are put back, its last 8 bytes, and the words. */
struct frame {
	u64 len, words, last, bytes[WORDS];
};

struct map SEC("maps") FRAME = { ARRAY, 4, sizeof(struct frame), 1, 0 };

/* Makes the frame what it was; 0 where that cannot be done. */
INLINE int put_back(struct context *context)
{
	u32 first = 0;
	struct frame *frame = map_lookup(&FRAME, &first);
	long len = end_of(context) - start_of(context);
	u64 *word;

	if (!frame)
		return 0;
	/* The verifier lets no pointer be taken from a scalar. */
	asm volatile("" : "+r"(len));
	/* Always, so that it is in all figures. */
	if (adjust_tail(context, (long)frame->len - len))
		return 0;
	word = (u64 *)start_of(context);
	for (int i = 0; i < WORDS && i < frame->words; i++, word++) {
		if ((u8 *)(word + 1) > end_of(context))
			return 0;
		*word = frame->bytes[i];
	}
	word = (u64 *)(start_of(context) + ((frame->len - sizeof(*word)) & 0xfff));
	if ((u8 *)(word + 1) > end_of(context))
		return 0;
	*word = frame->last;
	return 1;
}
#endif
