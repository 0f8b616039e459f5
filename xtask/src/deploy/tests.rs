//! Checks of `deploy/` and `.github/` against the unit, `dist/` and the workspace, without Helm.

use super::*;

fn text(path: &str) -> String {
    let path = repository().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Capabilities without `CAP_`, sorted.
fn sorted<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut names: Vec<_> = names.map(|name| name.trim_start_matches("CAP_")).collect();
    names.sort_unstable();
    names
}

/// The names in the list that follows `key` on its line.
fn list<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    let line = text.lines().find_map(|line| line.trim().strip_prefix(key));
    let names = line.unwrap_or_else(|| panic!("no {key}")).trim();
    sorted(names.trim_matches(['[', ']']).split(", "))
}

#[test]
fn containers_have_the_capabilities_of_the_unit() {
    let unit = text("dist/tfo.service");
    let line = unit
        .lines()
        .find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
    let unit = sorted(line.unwrap().split(' '));
    assert_eq!(unit.len(), 3, "{unit:?}");
    let pod = text("deploy/kubernetes/tfo/templates/daemonset.yaml");
    assert_eq!(list(&pod, "add: "), unit);
    assert_eq!(list(&pod, "drop: "), ["ALL"]);
    let compose = text("deploy/compose/compose.yaml");
    assert_eq!(list(&compose, "cap_add: "), unit);
    assert_eq!(list(&compose, "cap_drop: "), ["ALL"]);
}

#[test]
fn rules_and_dashboard_are_those_of_dist() {
    for (name, original) in [
        ("tfo.rules.yml", "dist/prometheus/tfo.rules.yml"),
        ("tfo.json", "dist/grafana/tfo.json"),
    ] {
        let link = repository().join(dist::CHART).join("files").join(name);
        assert!(link.is_symlink(), "{} is a copy", link.display());
        let real = fs::canonicalize(&link).unwrap();
        assert_eq!(real, fs::canonicalize(repository().join(original)).unwrap());
    }
}

#[test]
fn the_chart_has_the_workspaces_version() {
    let chart = text("deploy/kubernetes/tfo/Chart.yaml");
    for key in ["version: ", "appVersion: "] {
        let version = chart.lines().find_map(|line| line.strip_prefix(key));
        assert_eq!(version, Some(env!("CARGO_PKG_VERSION")), "{key}");
    }
}

#[test]
fn the_schema_names_the_top_level_of_the_values() {
    let schema = text("deploy/kubernetes/tfo/values.schema.json");
    let values = text("deploy/kubernetes/tfo/values.yaml");
    let keys = values.lines().filter_map(|line| line.split_once(':'));
    let keys: Vec<_> = keys
        .filter(|(key, _)| key.starts_with(|c: char| c.is_ascii_alphabetic()))
        .collect();
    assert!(keys.len() > 15, "{keys:?}");
    for (key, _) in keys {
        assert!(schema.contains(&format!("\n  \"{key}\": ")), "{key}");
    }
}

#[test]
fn the_filter_of_calls_is_that_of_the_unit() {
    let unit = text("dist/tfo.service");
    let line = unit
        .lines()
        .find_map(|line| line.strip_prefix("SystemCallFilter=@"));
    assert_eq!(line, Some("system-service bpf"));
    assert!(unit.contains("\nSystemCallFilter=~@resources @setuid @chown @keyring\n"));
    let filter = text("deploy/compose/seccomp.json");
    let has = |call: &str| filter.contains(&format!("\"{call}\""));
    for call in ["bpf", "execve", "sendmsg", "flock", "epoll_wait"] {
        assert!(has(call), "{call}");
    }
    // One of each group that the unit takes out, and some outside of it.
    for call in [
        "setpriority",
        "setuid",
        "chown",
        "keyctl",
        "mount",
        "ptrace",
        "kexec_load",
    ] {
        assert!(!has(call), "{call}");
    }
}

#[test]
fn workflows_call_tasks() {
    // What no task does: trust the work tree of a container, and publish.
    const OTHERS: [&str; 3] = [".ci/run", "git config ", "gh release "];
    let tasks = text("xtask/src/main.rs");
    let mut called = 0;
    for workflow in ["ci", "release"] {
        let text = text(&format!(".github/workflows/{workflow}.yml"));
        let steps = text.lines().filter_map(|line| line.split_once("run: "));
        for (_, step) in steps {
            let Some(task) = step.strip_prefix("cargo xtask ") else {
                let known = OTHERS.iter().any(|other| step.starts_with(other));
                assert!(known, "{workflow}: {step}");
                continue;
            };
            let name = task.split(' ').next().unwrap_or_default();
            let variant = name[..1].to_uppercase() + &name[1..];
            assert!(tasks.contains(&format!("Task::{variant}")), "{task}");
            called += 1;
        }
        // A step of several lines would go unseen.
        assert!(!text.contains("run: |"), "{workflow}");
    }
    assert!(called >= 4, "{called}");
}
