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
static long (*const redirect)(u32 interface, u64 flags) = (void *)23;
static long (*const change_tail)(void *context, u32 len, u64 flags) = (void *)38;
static long (*const adjust_tail)(void *context, int delta) = (void *)65;
static long (*const sk_release)(void *socket) = (void *)86;
static void *(*const skc_lookup_tcp)(void *context, void *tuple, u32 size, u64 netns, u64 flags) = (void *)99;

/* Kinds of maps, and verdicts: the frame goes on, or the program could not do what it is for. */
enum { ARRAY = 2, PROGRAMS = 3, PER_CPU_ARRAY = 6 };
#ifdef TC
enum { ABORTED = 2, PASS = -1 };
#else
enum { ABORTED = 0, PASS = 2 };
#endif

struct map {
	u32 type, key_size, value_size, max_entries, flags;
};

struct context {
#ifdef TC
	u32 others[19];
#endif
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

/* How many frames there are, and which is the next. */
struct cursor {
	u64 count, next;
};

/* As many frames as the loader says. */
struct map SEC("maps") FRAMES = { ARRAY, 4, sizeof(struct frame), 1, 0 };
struct map SEC("maps") CURSOR = { ARRAY, 4, sizeof(struct cursor), 1, 0 };

/* Always, so that it is in all figures. */
INLINE int resize(struct context *context, long len)
{
#ifdef TC
	return change_tail(context, len, 0);
#else
	long present = end_of(context) - start_of(context);

	/* The verifier lets no pointer be taken from a scalar. */
	asm volatile("" : "+r"(present));
	return adjust_tail(context, len - present);
#endif
}

/* Makes the frame what it was, or the next one of several; 0 where that cannot be done. */
INLINE int put_back(struct context *context)
{
	u32 first = 0, at;
	struct cursor *cursor = map_lookup(&CURSOR, &first);
	struct frame *frame;
	u64 *word;

	if (!cursor)
		return 0;
	at = cursor->next;
	cursor->next = at + 1 < cursor->count ? at + 1 : 0;
	frame = map_lookup(&FRAMES, &at);
	if (!frame || resize(context, frame->len))
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
