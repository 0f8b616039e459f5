//! Builds the data path for the BPF target.

fn main() -> aya_build::Result<()> {
    aya_build::build_ebpf(
        [aya_build::Package {
            name: "tfo-ebpf",
            root_dir: "../tfo-ebpf",
            ..Default::default()
        }],
        aya_build::Toolchain::Custom("debian-web"),
    )
}
