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
