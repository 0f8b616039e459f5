//! Declares `bpf_target_arch`, the machine that the program will run on.

fn main() {
    aya_build::emit_bpf_target_arch_cfg().expect("cargo sets HOST for build scripts");
}
