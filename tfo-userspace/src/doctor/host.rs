//! The kernel's features, and the privileges of this process.

use rustix::{
    process::{Resource, getrlimit},
    system::uname,
};

use super::{
    file_system::FileSystemFacts,
    finding::{Finding, parts},
};
use crate::kernel::{
    refusal,
    support::{self, BTF},
    sysctl::BPF_JIT_ENABLE,
    types::KernelTypes,
};

/// Facts about the host.
#[derive(Clone, Debug)]
pub(super) struct HostFacts {
    /// `uname -r`.
    release: String,
    /// `Ok(true)` if bpf(2) works, `Ok(false)` if this process may not call it.
    bpf: Result<bool, String>,
    /// Features that BTF shows.
    btf: Result<BtfFacts, String>,
    /// Capabilities that this process lacks.
    missing: Vec<&'static str>,
    /// The BPF file system.
    file_system: FileSystemFacts,
    /// `net.core.bpf_jit_enable`; only the initial network namespace has it.
    jit: Option<u32>,
    /// `RLIMIT_MEMLOCK` in bytes; `None` for unlimited.
    memlock: Option<u64>,
}

/// Features of the kernel, by its BTF.
#[derive(Clone, Debug)]
struct BtfFacts {
    /// `Ok` if the exact mirror is possible; else the reason.
    exact: Result<(), String>,
    /// TCX (Linux 6.6).
    tcx: bool,
    /// `bpf_sk_assign_tcp_reqsk` (Linux 6.9).
    syn_cookies: bool,
}

impl BtfFacts {
    fn read() -> Result<Self, String> {
        let types = KernelTypes::read().map_err(|error| error.to_string())?;
        let offsets = types.socket_offsets();
        Ok(Self {
            exact: offsets.map(drop).map_err(|error| error.to_string()),
            tcx: types.has("tcx_entry"),
            syn_cookies: types.has("bpf_sk_assign_tcp_reqsk"),
        })
    }
}

impl HostFacts {
    pub(super) fn read() -> Self {
        let missing = support::missing_capabilities();
        let bpf = match support::try_bpf() {
            Ok(()) => Ok(true),
            Err(error)
                if error.kind() == std::io::ErrorKind::PermissionDenied && !missing.is_empty() =>
            {
                Ok(false)
            }
            Err(error) => Err(refusal::of_bpf(&error)),
        };
        let can_try = missing.is_empty() && bpf == Ok(true);
        Self {
            release: uname().release().to_string_lossy().into_owned(),
            bpf,
            btf: BtfFacts::read(),
            missing,
            file_system: FileSystemFacts::read(can_try),
            jit: BPF_JIT_ENABLE.get().ok(),
            memlock: getrlimit(Resource::Memlock).current,
        }
    }

    pub(super) fn judge(&self) -> Vec<Finding> {
        let mut findings = vec![self.kernel(), self.privileges(), self.bpf()];
        match &self.btf {
            Ok(btf) => findings.extend([btf.mirror(), btf.features()]),
            Err(error) => findings.push(Finding::problem("BTF", error).remedy(format!(
                "use a kernel with CONFIG_DEBUG_INFO_BTF, which provides {BTF}: kernels of distributions have it"
            ))),
        }
        findings.extend(self.file_system.judge());
        findings.extend(self.jit());
        findings.extend(self.memlock());
        findings
    }

    fn kernel(&self) -> Finding {
        const CHECK: &str = "kernel";
        let found = format!("Linux {}", self.release);
        match version(&self.release) {
            Some(version) if version >= (6, 1) => Finding::ok(CHECK, found),
            Some(_) => Finding::problem(CHECK, found).remedy("use Linux 6.1 or later"),
            None => Finding::unknown(CHECK, format!("{found}: tfo cannot parse this version")),
        }
    }

    fn privileges(&self) -> Finding {
        const CHECK: &str = "privileges";
        if self.missing.is_empty() {
            return Finding::ok(
                CHECK,
                "this process has CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON",
            );
        }
        let missing = self.missing.join(", ");
        Finding::warning(
            CHECK,
            format!("this process lacks {missing}, so some checks cannot run"),
        )
        .remedy("run tfo as root")
    }

    fn bpf(&self) -> Finding {
        const CHECK: &str = "BPF";
        match &self.bpf {
            Ok(true) => Finding::ok(CHECK, "bpf(2) works"),
            Ok(false) => Finding::unknown(CHECK, "checking bpf(2) takes privileges"),
            Err(error) => {
                let (found, remedy) = parts(error);
                Finding::problem(CHECK, found).remedy(remedy)
            }
        }
    }

    fn jit(&self) -> Option<Finding> {
        const CHECK: &str = "JIT";
        Some(match self.jit? {
            0 => Finding::warning(
                CHECK,
                "net.core.bpf_jit_enable = 0: BPF programs are interpreted, which is slow",
            )
            .remedy("sysctl -w net.core.bpf_jit_enable=1, then detach and attach again"),
            _ => Finding::ok(CHECK, "BPF programs are JIT-compiled"),
        })
    }

    /// From Linux 5.11 on, BPF memory is charged to the memory cgroup and not to this limit.
    fn memlock(&self) -> Option<Finding> {
        let counted = version(&self.release).is_some_and(|version| version < (5, 11));
        let limit = self.memlock.filter(|_| counted)?;
        let found =
            format!("this kernel charges BPF maps to RLIMIT_MEMLOCK, which is {limit} bytes");
        Some(Finding::warning("memlock", found).remedy("ulimit -l unlimited"))
    }
}

impl BtfFacts {
    fn mirror(&self) -> Finding {
        const CHECK: &str = "mirror";
        match &self.exact {
            Ok(()) => Finding::ok(CHECK, "exact: the data path can look up the kernel's sockets"),
            Err(error) => Finding::warning(CHECK, format!("packet-level: {error}")).remedy(
                "use a kernel with that field; on this one, drift shows what packets alone do not tell",
            ),
        }
    }

    fn features(&self) -> Finding {
        const CHECK: &str = "features";
        let features = [
            (
                self.tcx,
                "TCX (Linux 6.6); without it, --mode tc attaches a clsact filter",
            ),
            (
                self.syn_cookies,
                "bpf_sk_assign_tcp_reqsk (Linux 6.9), for SYN cookies in BPF",
            ),
        ];
        let of = |there| {
            let chosen = features.iter().filter(|(has, _)| *has == there);
            chosen.map(|(_, name)| *name).collect::<Vec<_>>().join("; ")
        };
        match (of(true), of(false)) {
            (there, absent) if absent.is_empty() => Finding::ok(CHECK, there),
            (_, absent) => Finding::note(CHECK, format!("not in this kernel: {absent}")),
        }
    }
}

/// Major and minor number.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{Verdict, finding::testing::expect};

    fn healthy() -> HostFacts {
        HostFacts {
            release: "6.18.44-amd64".into(),
            bpf: Ok(true),
            btf: Ok(BtfFacts {
                exact: Ok(()),
                tcx: true,
                syn_cookies: true,
            }),
            missing: Vec::new(),
            file_system: FileSystemFacts::healthy(),
            jit: Some(1),
            memlock: Some(65_536),
        }
    }

    /// The healthy host with one thing changed.
    fn with(change: impl FnOnce(&mut HostFacts)) -> Vec<Finding> {
        let mut host = healthy();
        change(&mut host);
        host.judge()
    }

    #[test]
    fn a_healthy_host_is_fine() {
        let findings = healthy().judge();
        assert!(
            findings.iter().all(|each| each.verdict == Verdict::Ok),
            "{findings:?}"
        );
    }

    #[test]
    fn each_lack_is_named() {
        use Verdict::{Problem, Unknown, Warning};
        let old = with(|host| host.release = "5.10.0-30-amd64".into());
        expect(&old, "kernel", Problem, "5.10");
        expect(&old, "memlock", Warning, "65536 bytes");
        expect(
            &with(|host| host.release = "odd".into()),
            "kernel",
            Unknown,
            "odd",
        );
        let user = with(|host| {
            host.missing = vec!["CAP_BPF", "CAP_PERFMON"];
            host.bpf = Ok(false);
        });
        expect(&user, "privileges", Warning, "CAP_BPF, CAP_PERFMON");
        expect(&user, "BPF", Unknown, "privileges");
        let none = with(|host| host.bpf = Err("Function not implemented".into()));
        expect(&none, "BPF", Problem, "not implemented");
        let no_types = with(|host| host.btf = Err("no such file".into()));
        expect(&no_types, "BTF", Problem, "no such file");
        expect(
            &with(|host| host.jit = Some(0)),
            "JIT",
            Warning,
            "interpreted",
        );
    }

    #[test]
    fn the_kernels_types_decide_about_the_mirror() {
        let findings = with(|host| {
            host.btf = Ok(BtfFacts {
                exact: Err("this kernel has no struct sock, field x".into()),
                tcx: false,
                syn_cookies: false,
            });
        });
        expect(&findings, "mirror", Verdict::Warning, "field x");
        expect(&findings, "features", Verdict::Note, "TCX");
    }

    #[test]
    fn a_namespace_without_the_jit_sysctl_says_nothing_of_it() {
        let findings = with(|host| host.jit = None);
        assert!(findings.iter().all(|each| each.check != "JIT"));
    }

    #[test]
    fn releases_have_a_major_and_a_minor() {
        assert_eq!(version("6.1.0-37-amd64"), Some((6, 1)));
        assert_eq!(version("6.18-rc1"), Some((6, 18)));
        assert_eq!(version("6"), None);
    }
}
