//! `cargo xtask deploy`: checks what is in `deploy/`, the chart and the compose file, and the workflows of `.github/`.
//!
//! `check.py` renders the chart by Helm's library, and holds the objects against Kubernetes' schemas and `dist/`.
//! The configurations of the chart and of the compose file are read by `tfo`. promtool reads Prometheus's. No cluster is
//! needed, and none is tried.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    build::{self, Profile},
    command::{as_root, output, repository, succeed, target},
    dist, setup,
};

const REQUIREMENTS: &str = include_str!("requirements.txt");
/// Reads a compose file and holds it against its schema; it asks no daemon for that.
const COMPOSE: [(&str, &str); 1] = [("docker-compose", "docker-compose")];

/// Checks the chart and the compose file.
///
/// # Errors
///
/// A tool is missing and cannot be installed, or a check fails.
pub fn deploy() -> Result<()> {
    setup::ensure()?;
    let out = target()?.join("deploy");
    if out.exists() {
        fs::remove_dir_all(&out)?;
    }
    fs::create_dir_all(&out)?;
    let python = setup::python("deploy", REQUIREMENTS)?;
    // As it is shipped, with the files of dist in it.
    let chart = dist::chart(&target()?.join("tools"))?;
    let mut check = Command::new(&python);
    check.arg(repository().join("xtask/src/deploy/check.py"));
    succeed(check.args([&chart, &repository().join("dist"), &out]))?;
    fs::copy(
        repository().join("deploy/compose/tfo.toml"),
        out.join("compose.toml"),
    )?;
    configurations(&out)?;
    compose()?;
    forge(&python)
}

/// The workflows and the forms of issues, by the schemas that check-jsonschema brings.
fn forge(python: &Path) -> Result<()> {
    let checker = python.with_file_name("check-jsonschema");
    for (schema, files) in [
        (
            "workflows",
            ["workflows/ci.yml", "workflows/release.yml"].as_slice(),
        ),
        (
            "issue-forms",
            &["ISSUE_TEMPLATE/bug.yml", "ISSUE_TEMPLATE/feature.yml"],
        ),
        ("issue-config", &["ISSUE_TEMPLATE/config.yml"]),
    ] {
        let mut check = Command::new(&checker);
        check.args([
            "--quiet",
            "--builtin-schema",
            &format!("vendor.github-{schema}"),
        ]);
        succeed(check.args(files).current_dir(repository().join(".github")))?;
    }
    println!("tfo: workflows and forms of issues are as the forge's schemas have them");
    Ok(())
}

/// The messages of `tfo run` once it has read a configuration, and finds no interface or no key.
const READ: [&str; 3] = [
    "no such interface here",
    "no such interface yet",
    "/etc/tfo/secrets/keys: No such file",
];

/// Has `tfo run` read each configuration, in a network namespace of its own. A mistake in the file is reported with file
/// and line.
fn configurations(folder: &Path) -> Result<()> {
    let tfo = build::tfo(Profile::Dev)?;
    let mut read = 0;
    for file in fs::read_dir(folder)? {
        let file = file?.path();
        let mut run = as_root("unshare")?;
        run.arg("--net").arg(&tfo).args(["run", "-c"]).arg(&file);
        let mut run = run.stdin(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let mut said = String::new();
        let stderr = run.stderr.take().context("no standard error")?;
        let mut lines = BufReader::new(stderr).lines();
        let is_read = |line: &str| READ.iter().any(|text| line.contains(text));
        while !said.lines().any(is_read)
            && let Some(line) = lines.next()
        {
            said += &(line? + "\n");
        }
        // With a pattern of namespaces it waits for these.
        succeed(as_root("kill")?.arg(run.id().to_string()))?;
        run.wait()?;
        ensure!(
            said.lines().any(is_read),
            "tfo run -c {}: {said}",
            file.display()
        );
        read += 1;
    }
    println!("tfo: tfo run reads {read} configurations of deploy");
    Ok(())
}

/// The compose file, and its Prometheus.
fn compose() -> Result<()> {
    setup::programs(&COMPOSE)?;
    let folder = repository().join("deploy/compose");
    let mut compose = Command::new("docker-compose");
    compose.args(["--profile", "monitoring", "config", "--services"]);
    compose
        .env("TFO_IMAGE", "localhost/tfo")
        .current_dir(&folder);
    let services = output(&mut compose).context("docker-compose cannot read compose.yaml")?;
    let mut services: Vec<_> = services.lines().collect();
    services.sort_unstable();
    ensure!(
        services == ["prometheus", "tfo"],
        "docker-compose shows the services {services:?}"
    );
    let Some(promtool) = setup::promtool() else {
        bail!("promtool is missing: run `cargo xtask setup`");
    };
    // As in the container, the rules are beside it.
    let beside = target()?.join("deploy");
    for file in [
        "deploy/compose/prometheus.yml",
        "dist/prometheus/tfo.rules.yml",
    ] {
        let from = repository().join(file);
        let name = from.file_name().context("no name")?;
        fs::copy(&from, beside.join(name))?;
    }
    let mut check = Command::new(promtool);
    check
        .args(["check", "config"])
        .arg(beside.join("prometheus.yml"));
    output(&mut check).context("promtool refuses deploy/compose/prometheus.yml")?;
    println!("tfo: docker-compose reads the compose file, promtool its prometheus.yml");
    Ok(())
}

#[cfg(test)]
mod tests;
