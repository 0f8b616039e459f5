"""A picture of `tfo top`, as SVG: a real run, with traffic, in network namespaces of this process's own.

Called as root in fresh mount, network and process namespaces: TFO OUTPUT. The terminal is an emulator that reads the bytes
that `tfo top` writes.
"""

import fcntl, io, itertools, os, pty, random, re, select, socket, struct, subprocess, sys, termios, threading, time

COLUMNS, LINES = 100, 30
SECONDS = 60
SERVER = "192.0.2.1"
PORTS = {443: True, 80: True, 8080: False}


def run(command, **options):
    subprocess.run(command.split(), check=True, **options)


def hosts():
    """This namespace is the server's. The client's has three addresses."""
    run("mount --make-rprivate /")
    run("mount -t sysfs sysfs /sys")
    run("mount -t bpf -o mode=0700 bpf /sys/fs/bpf")
    run("mount -t tmpfs tmpfs /run")
    run("ip netns add client")
    run("ip link add eth0 type veth peer name eth0 netns client")
    run("ip netns exec client sysctl -qw net.ipv4.tcp_fastopen=1")
    run("sysctl -qw net.ipv4.tcp_fastopen=2")
    run("ip addr add 192.0.2.1/24 dev eth0")
    for host in 10, 11, 12:
        run(f"ip -n client addr add 192.0.2.{host}/24 dev eth0")
    run("ip link set lo up")
    run("ip link set eth0 up")
    run("ip -n client link set eth0 up")


def serve(port, fast_open):
    listener = socket.socket()
    if fast_open:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 256)
    listener.bind((SERVER, port))
    listener.listen(256)

    def answer():
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"done")

    threading.Thread(target=answer, daemon=True).start()


def client():
    """Requests with Fast Open, most of them to port 443, until it is killed."""
    ports = random.Random(1)
    while True:
        port = ports.choices(list(PORTS), [8, 3, 1])[0]
        with socket.socket() as connection:
            connection.bind((f"192.0.2.{ports.choice([10, 10, 10, 11, 12])}", 0))
            connection.sendto(b"x" * ports.randint(100, 900), socket.MSG_FASTOPEN, (SERVER, port))
            connection.recv(64)
        time.sleep(ports.uniform(0.005, 0.02))


def start(command):
    """Runs a command on a terminal, and returns its process and the terminal's other end."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    environment = dict(os.environ, TERM="xterm-256color")
    environment.pop("NO_COLOR", None)
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    return process, ours


def watch(tfo):
    """The screen of `tfo top` after a while."""
    import pyte

    screen = pyte.Screen(COLUMNS, LINES)
    stream = pyte.ByteStream(screen)
    process, terminal = start([tfo, "top"])
    end = time.monotonic() + SECONDS
    rotations = [end - 25, end - 10]
    while (now := time.monotonic()) < end:
        if rotations and now > rotations[0]:
            rotations.pop(0)
            run(f"{tfo} keys rotate", stdout=subprocess.DEVNULL)
        if select.select([terminal], [], [], 0.2)[0]:
            stream.feed(os.read(terminal, 65536))
    assert process.poll() is None, "tfo top ended"
    os.write(terminal, b"q")
    process.wait()
    return screen


def color(name):
    """A color of pyte's, as rich has it."""
    names = {"default": None, "brown": "yellow"}
    if re.fullmatch("[0-9a-f]{6}", name):
        return f"#{name}"
    if name.startswith("bright"):
        return f"bright_{names.get(name[6:], name[6:])}"
    return names.get(name, name)


def picture(screen, output):
    from rich._export_format import CONSOLE_SVG_FORMAT
    from rich.console import Console
    from rich.style import Style
    from rich.text import Text

    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    for line in range(LINES):
        cells = [screen.buffer[line][column] for column in range(COLUMNS)]
        text = Text()
        for look, run in itertools.groupby(cells, lambda it: (it.fg, it.bg, it.bold, it.reverse)):
            foreground, background, bold, reverse = look
            style = Style(color=color(foreground), bgcolor=color(background), bold=bold, reverse=reverse)
            text.append("".join(cell.data for cell in run), style)
        console.print(text, no_wrap=True)
    # Without fonts from elsewhere.
    template = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.S)
    console.save_svg(output, title="tfo top", code_format=template, unique_id="top")


def main():
    if sys.argv[1] == "client":
        client()
    tfo, output = sys.argv[1:]
    hosts()
    run(f"{tfo} attach eth0", stdout=subprocess.DEVNULL)
    for port, fast_open in PORTS.items():
        serve(port, fast_open)
    traffic = subprocess.Popen(["ip", "netns", "exec", "client", sys.executable, __file__, "client"])
    screen = watch(tfo)
    traffic.kill()
    picture(screen, output)


main()
