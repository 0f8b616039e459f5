//! Declares `bpf_target_arch`, the machine that the program will run on, and how code is laid out.

fn main() {
    aya_build::emit_bpf_target_arch_cfg().expect("cargo sets HOST for build scripts");
    // LLVM likes to put a loop's end right before its head, and to fall from one into the other. The verifier
    // of Linux 6.1 lets a loop close by a jump alone.
    if std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "bpf") {
        println!("cargo::rustc-link-arg-bins=--llvm-args=--disable-block-placement");
    }
}
