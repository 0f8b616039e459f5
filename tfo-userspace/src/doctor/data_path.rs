//! The data path in the kernel: attached programs, keys and drift.

use tfo_common::counters::Counter;

use super::{finding::Finding, interfaces::OurProgram};
use crate::{
    datapath::{DatapathError, Namespace, NamespaceError},
    kernel::{link, sysctl},
    model::{AttachMode, Fingerprint, KeyPair},
};

const CHECK: &str = "attached";

/// Facts about the data path of the namespace.
#[derive(Clone, Debug, Default)]
pub(super) struct DataPathFacts {
    interfaces: Vec<AttachedProgram>,
    /// Programs of other layout versions: the version, and the interface's name, or its index where it is gone.
    other_layouts: Vec<(String, Result<String, u32>)>,
    /// Programs that came with interfaces from other namespaces: the interface, and the program's id.
    strays: Vec<(String, u32)>,
    keys: Option<KeyFingerprints>,
    /// Counters with lasting drift, and the difference.
    drift: Vec<(Counter, i64)>,
    /// The hint of the sources at a pool of addresses.
    pool: Option<String>,
    /// Why parts could not be read.
    unread: Vec<String>,
}

#[derive(Clone, Debug)]
struct AttachedProgram {
    index: u32,
    /// `None` where the interface no longer exists.
    name: Option<String>,
    program_id: u32,
    /// The id of the guard's program in traffic control.
    guard_id: Option<u32>,
    /// `None` where the program was detached.
    mode: Option<AttachMode>,
    /// It still runs, in another network namespace.
    moved: bool,
    replaced: bool,
}

/// Fingerprints of the kernel's keys and of those that the data path accepts.
#[derive(Clone, Debug)]
struct KeyFingerprints {
    kernel: Vec<Fingerprint>,
    data_path: Vec<Fingerprint>,
}

impl DataPathFacts {
    pub(super) async fn read(privileged: bool) -> Self {
        let mut facts = Self::default();
        if !privileged {
            facts
                .unread
                .push("seeing what is attached takes privileges".into());
            return facts;
        }
        if let Err(error) = facts.read_namespace().await {
            facts.unread.push(error.to_string());
        }
        facts
    }

    async fn read_namespace(&mut self) -> Result<(), NamespaceError> {
        let namespace = Namespace::current()?;
        let present = link::list().await?;
        let name = |index: u32| {
            let interface = present.iter().find(|each| each.index == index);
            interface
                .map(|interface| interface.name.clone())
                .ok_or(index)
        };
        let others = namespace.other_layouts()?.into_iter();
        self.other_layouts = others
            .map(|(version, index)| (version, name(index)))
            .collect();
        let strays = namespace.strays().await?.into_iter();
        self.strays = strays.map(|it| (it.interface, it.program_id)).collect();
        for interface in namespace.interfaces().await? {
            self.interfaces.push(AttachedProgram {
                index: interface.index,
                program_id: interface.program_id,
                guard_id: namespace.guard().program(interface.index),
                mode: interface.mode,
                moved: interface.moved,
                replaced: interface.replaced,
                name: interface.name,
            });
        }
        if self.interfaces.is_empty() {
            return Ok(());
        }
        match KeyFingerprints::read(&namespace) {
            Ok(keys) => self.keys = keys,
            Err(error) => self.unread.push(error.to_string()),
        }
        self.pool = namespace.sources()?.hint_of_pool();
        let (drift, lasting) = namespace.lasting_drift().await?;
        let all = Counter::MIRRORED.into_iter().zip(drift.drift());
        self.drift = all
            .filter(|(counter, _)| lasting.contains(counter))
            .collect();
        Ok(())
    }

    /// The program on the interface with this index.
    pub(super) fn on(&self, index: u32) -> Option<OurProgram> {
        let found = self.interfaces.iter().find(|each| each.index == index)?;
        Some(OurProgram {
            program_id: found.program_id,
            guard_id: found.guard_id,
            mode: found.mode,
        })
    }

    pub(super) fn judge(&self) -> Vec<Finding> {
        let mut findings: Vec<_> = self
            .unread
            .iter()
            .map(|why| Finding::unknown(CHECK, why))
            .collect();
        findings.extend(self.other_layouts.iter().map(|(layout, interface)| {
            const CHECK: &str = "other version";
            let found = |which: &str| {
                format!("{which} of layout {layout}, whose counters this tfo does not read")
            };
            match interface {
                Ok(name) => Finding::problem(CHECK, found("a program"))
                    .remedy(format!("tfo attach --replace {name}"))
                    .of(name),
                Err(index) => {
                    let pins = format!("pins of the interface with index {index}, which is gone,");
                    Finding::problem(CHECK, found(&pins)).remedy("tfo detach --all")
                }
            }
        }));
        findings.extend(self.strays.iter().map(|(name, id)| {
            let found = format!(
                "program {id} came with the interface from another network namespace, still running with the keys, policy and guard of that one"
            );
            Finding::problem("moved here", found)
                .remedy(format!("tfo attach --replace {name}, or tfo detach {name}"))
                .of(name)
        }));
        if self.interfaces.is_empty() {
            if self.unread.is_empty() {
                let found = "tfo is not attached to any interface here";
                findings.push(Finding::note(CHECK, found).remedy("tfo attach IFACE"));
            }
            return findings;
        }
        findings.extend(self.interfaces.iter().map(AttachedProgram::judge));
        findings.extend(self.keys.as_ref().and_then(KeyFingerprints::judge));
        findings.push(self.drift());
        findings.extend(self.pool.as_ref().map(|hint| {
            Finding::note("sources", hint).remedy(
                "for clients behind a pool, nothing here: have their provider pair addresses (RFC 6888, REQ-2); \
                 `tfo stats --by source` shows them",
            )
        }));
        findings
    }

    fn drift(&self) -> Finding {
        const CHECK: &str = "drift";
        if self.drift.is_empty() {
            return Finding::ok(CHECK, "tfo counted what the kernel counted");
        }
        let figures = self
            .drift
            .iter()
            .map(|(counter, by)| format!("{} {by:+}", counter.name()));
        let found = format!(
            "tfo's counters less the kernel's: {}",
            figures.collect::<Vec<_>>().join(", ")
        );
        Finding::warning(CHECK, found).remedy(
            "attach to every interface that clients arrive at, and make sure that nothing behind tfo drops SYNs; \
             `tfo detach` and `tfo attach` restart the comparison",
        )
    }
}

impl AttachedProgram {
    fn judge(&self) -> Finding {
        match (&self.name, self.mode) {
            (Some(name), Some(mode)) => {
                let found = format!("program {} in {mode} mode", self.program_id);
                Finding::ok(CHECK, found).of(name)
            }
            (Some(name), None) => {
                let found = if self.replaced {
                    "this is a new interface: the one that tfo was attached to, and whose index this one has, is gone. Nothing \
                     is counted"
                } else {
                    "another process detached it, or the interface was made again with the same index and address: nothing is \
                     counted"
                };
                Finding::problem(CHECK, found)
                    .remedy(format!("tfo attach {name}"))
                    .of(name)
            }
            (None, _) if self.moved => {
                let found = format!(
                    "interface {} was moved to another namespace, still running: program {} acts there by the rules of this one",
                    self.index, self.program_id
                );
                Finding::problem("moved away", found)
                    .remedy("tfo detach --all here, then attach again to the interfaces to keep; or tfo detach IFACE there")
            }
            (None, _) => {
                let found = format!(
                    "interface {} is gone, and its counters are still pinned",
                    self.index
                );
                Finding::warning("stale pins", found)
                    .remedy("tfo detach --all, then attach again to the interfaces to keep")
            }
        }
    }
}

impl KeyFingerprints {
    /// `None` where the kernel's keys cannot be read, which is a finding of its own.
    fn read(namespace: &Namespace) -> Result<Option<Self>, DatapathError> {
        let (Some(accepted), Ok(kernel)) = (namespace.keys().accepted()?, sysctl::key()) else {
            return Ok(None);
        };
        let of_pair = |pair: &KeyPair| pair.keys().map(|key| Fingerprint::of(&key)).collect();
        Ok(Some(Self {
            kernel: kernel.as_ref().map_or(Vec::new(), of_pair),
            data_path: accepted.keys().iter().map(Fingerprint::of).collect(),
        }))
    }

    /// The data path must accept every key of the kernel. It may accept more during a rotation.
    fn judge(&self) -> Option<Finding> {
        const CHECK: &str = "keys of the data path";
        let missing: Vec<_> = self
            .kernel
            .iter()
            .filter(|key| !self.data_path.contains(key))
            .collect();
        if self.kernel.is_empty() {
            return None;
        }
        if missing.is_empty() {
            return Some(Finding::ok(CHECK, "the keys of the kernel are among them"));
        }
        let missing: Vec<_> = missing.iter().map(ToString::to_string).collect();
        let found = format!(
            "the kernel has keys that the data path does not accept ({}): someone else changed net.ipv4.tcp_fastopen_key",
            missing.join(", ")
        );
        Some(Finding::warning(CHECK, found).remedy("tfo keys import"))
    }
}

#[cfg(test)]
mod tests {
    use tfo_common::fastopen::Key;

    use super::*;
    use crate::doctor::{
        Verdict::{self, Note, Ok as Fine, Problem, Unknown, Warning},
        finding::testing::expect,
    };

    fn fingerprints(numbers: &[u32]) -> Vec<Fingerprint> {
        let key = |number: &u32| Fingerprint::of(&Key::from_groups([*number; 4]));
        numbers.iter().map(key).collect()
    }

    fn with(change: impl FnOnce(&mut DataPathFacts)) -> Vec<Finding> {
        let mut facts = DataPathFacts {
            interfaces: vec![AttachedProgram {
                index: 2,
                name: Some("eth0".into()),
                program_id: 7,
                guard_id: None,
                mode: Some(AttachMode::Native),
                moved: false,
                replaced: false,
            }],
            keys: Some(KeyFingerprints {
                kernel: fingerprints(&[1, 2]),
                // A staged key.
                data_path: fingerprints(&[1, 2, 3]),
            }),
            ..DataPathFacts::default()
        };
        change(&mut facts);
        facts.judge()
    }

    #[test]
    fn what_runs_is_fine() {
        let findings = with(|_| ());
        assert!(
            findings.iter().all(|each| each.verdict == Verdict::Ok),
            "{findings:?}"
        );
        expect(&findings, CHECK, Fine, "program 7 in native mode");
    }

    #[test]
    fn what_is_lost_is_named() {
        expect(
            &with(|facts| facts.interfaces.clear()),
            CHECK,
            Note,
            "not attached",
        );
        let lost = with(|facts| facts.interfaces[0].mode = None);
        expect(&lost, CHECK, Problem, "detached");
        let replaced = with(|facts| {
            facts.interfaces[0].mode = None;
            facts.interfaces[0].replaced = true;
        });
        expect(&replaced, CHECK, Problem, "new interface");
        let gone = with(|facts| facts.interfaces[0].name = None);
        expect(&gone, "stale pins", Warning, "interface 2 is gone");
        let moved = with(|facts| {
            facts.interfaces[0].name = None;
            facts.interfaces[0].moved = true;
        });
        expect(
            &moved,
            "moved away",
            Problem,
            "another namespace, still running",
        );
        let stray = with(|facts| facts.strays.push(("eth1".into(), 9)));
        expect(&stray, "moved here", Problem, "program 9");
        for (interface, remedy) in [
            (Ok("eth1".to_owned()), "tfo attach --replace eth1"),
            (Err(2), "tfo detach --all"),
        ] {
            let old = with(|facts| facts.other_layouts.push(("v0".into(), interface)));
            expect(&old, "other version", Problem, "layout v0");
            assert_eq!(old[0].remedy.as_deref(), Some(remedy));
        }
        let pool = with(|facts| facts.pool = Some("40 of 40 sources".into()));
        expect(&pool, "sources", Note, "40 of 40");
        let unread = with(|facts| {
            facts.interfaces.clear();
            facts.unread.push("takes privileges".into());
        });
        expect(&unread, CHECK, Unknown, "privileges");
    }

    #[test]
    fn keys_that_the_data_path_lacks_are_named_by_fingerprint() {
        let findings = with(|facts| {
            facts.keys = Some(KeyFingerprints {
                kernel: fingerprints(&[1, 4]),
                data_path: fingerprints(&[1, 2]),
            });
        });
        let [four] = fingerprints(&[4]).try_into().unwrap();
        expect(
            &findings,
            "keys of the data path",
            Warning,
            &format!("({four})"),
        );
    }

    #[test]
    fn drift_comes_with_its_figures() {
        let findings = with(|facts| facts.drift = vec![(Counter::Passive, -3)]);
        expect(&findings, "drift", Warning, "TCPFastOpenPassive -3");
    }
}
