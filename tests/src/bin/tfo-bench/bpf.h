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

#ifdef PUTS_BACK
/* Most words of 8 bytes that are put back. */
enum { WORDS = 16 };

/* A frame's length, how many whole words of it are put back, and the words. */
struct frame {
	u64 len, words, bytes[WORDS];
};

struct map SEC("maps") FRAME = { ARRAY, 4, sizeof(struct frame), 1, 0 };

/* Makes the frame what it was; 0 where that cannot be done. */
INLINE int put_back(struct context *context)
{
	u32 first = 0;
	struct frame *frame = map_lookup(&FRAME, &first);
	u8 *start = (u8 *)(long)context->data, *end = (u8 *)(long)context->data_end;

	if (!frame)
		return 0;
	/* Always, so that it is in all figures. */
	if (adjust_tail(context, (long)frame->len - (end - start)))
		return 0;
	for (int i = 0; i < WORDS; i++) {
		u64 *word = (u64 *)(long)context->data + i;

		if (i >= frame->words || word + 1 > (u64 *)(long)context->data_end)
			break;
		*word = frame->bytes[i];
	}
	return 1;
}
#endif
