/* The kernel's socket look-up alone: what a SYN costs any program that asks for its listener. It reads addresses and
 * ports, behind Ethernet without a tag and IPv4 without options, or IPv6 without extension headers; looks up the socket;
 * and releases it.
 */
#include "bpf.h"

#define SWAP16(value) __builtin_bswap16(value)

/* Offsets in the frame: the source address, which the destination's follows; the ports. */
enum { SOURCE_V4 = 26, PORTS_V4 = 34, SOURCE_V6 = 22, PORTS_V6 = 54 };
enum { SIZE_V4 = 12, SIZE_V6 = 36 };

SEC("xdp") int lookup(struct context *context)
{
	u8 *packet = (void *)(long)context->data;
	void *end = (void *)(long)context->data_end, *socket;
	u32 tuple[SIZE_V6 / 4];
	u32 size;

	if ((void *)(packet + PORTS_V4 + 4) > end)
		return ABORTED;
	if (*(u16 *)(packet + 12) == SWAP16(0x0800)) {
		tuple[0] = *(u32 *)(packet + SOURCE_V4);
		tuple[1] = *(u32 *)(packet + SOURCE_V4 + 4);
		tuple[2] = *(u32 *)(packet + PORTS_V4);
		size = SIZE_V4;
	} else {
		if ((void *)(packet + PORTS_V6 + 4) > end)
			return ABORTED;
		for (int i = 0; i < 8; i++)
			tuple[i] = *(u32 *)(packet + SOURCE_V6 + 4 * i);
		tuple[8] = *(u32 *)(packet + PORTS_V6);
		size = SIZE_V6;
	}
	/* In the namespace of the device. */
	socket = skc_lookup_tcp(context, tuple, size, -1, 0);
	if (!socket)
		return ABORTED;
	sk_release(socket);
	return PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
