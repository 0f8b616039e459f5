//! Network namespaces that come and go, by patterns and by exact names; and the processes that are in them.

use std::{
    env, fs,
    os::unix::fs::symlink,
    process::{self, Command},
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tfo_testbed::{
    keys::{self, KeyFile},
    netns::Netns,
    process as programs,
    tfo::{self, LIMIT},
};

use super::{
    named::{Named, Service, descendants, ip, is_gone, is_pinned, pattern, section, status},
    running::{Running, eventually, kernel_gets, numbered},
};

/// Waits of half a minute where many namespaces are attached; each takes a second or two of CPU time.
const MANY_WAITS: u32 = 20;
const SYS_ADMIN: u64 = 1 << 21;

#[test]
fn each_is_attached_when_it_comes_and_free_when_it_goes() -> Result<()> {
    for (test, exact) in [("come", false), ("exact", true)] {
        let first = Named::of(test, "1");
        let name = if exact {
            first.0.clone()
        } else {
            pattern(test)
        };
        // With an exact name alone that does not exist, it does not start.
        let other = Named::new(test, if exact { "other" } else { "0" })?;
        let more = if exact {
            section(&other.0, "")
        } else {
            String::new()
        };
        let mut service = Service::start(test, &(section(&name, "") + &more))?;
        service.becomes(&[&other])?;

        ip(&["netns", "add", &first.0])?;
        let cookie = first.cookie()?;
        let attached = eventually("it is attached", || Ok(is_pinned(cookie)))?;
        println!("{test}: attached after {attached:?}");
        service.becomes(&[&other, &first])?;
        service.is_well()?;

        // Its other end vanishes with the namespace, not with its name.
        let peer = Netns::new("peer")?;
        ip(&[
            "-n",
            &first.0,
            "link",
            "add",
            "v0",
            "type",
            "veth",
            "peer",
            "name",
            "v1",
            "netns",
            peer.name(),
        ])?;
        peer.ip(&["link", "show", "v1"])?;
        first.delete()?;
        let freed = eventually("the namespace is free", || {
            Ok(peer.ip(&["link", "show", "v1"]).is_err())
        })?;
        println!("{test}: free after {freed:?}");
        ensure!(!is_pinned(cookie));
        service.becomes(&[&other])?;
        ensure!(
            service
                .metrics()?
                .contains("tfo_namespaces{state=\"attached\"} 1\n")
        );

        // The same name twice with nothing in between that a look could see.
        ip(&["netns", "add", &first.0])?;
        service.becomes(&[&other, &first])?;
        let old = first.cookie()?;
        first.delete()?;
        ip(&["netns", "add", &first.0])?;
        let new = first.cookie()?;
        ensure!(old != new);
        eventually("the new one is attached, and the old one swept", || {
            Ok(is_pinned(new) && !is_pinned(old))
        })?;
        service.becomes(&[&other, &first])?;
        service.is_well()?;
        service.running.wait_for_log("gone: released")?;
        let output = service.running.end()?;
        ensure!(!is_pinned(new), "detach-on-exit: {output:#?}");
    }
    Ok(())
}

#[test]
fn one_that_went_while_no_service_ran_is_swept() -> Result<()> {
    let pod = Named::new("swept", "1")?;
    let sections = section(&pattern("swept"), "");
    let service = Service::start("swept", &sections)?;
    service.becomes(&[&pod])?;
    let cookie = pod.cookie()?;
    let pid = service.running.process.id();
    let others = descendants(pid);
    ensure!(others.len() == 2, "the helper and one process: {others:?}");
    service.running.kill()?;
    eventually("no process is left", || {
        Ok(others.iter().all(|pid| is_gone(*pid)))
    })?;
    ensure!(is_pinned(cookie), "the data path outlives the service");
    pod.delete()?;
    let mut service = Service::start("swept", &sections)?;
    service.running.wait_for_log("there is none now")?;
    eventually("its pins are swept", || Ok(!is_pinned(cookie)))?;
    service.is_well()?;
    service.running.end().map(drop)
}

/// Each namespace belongs to one section, as its keys show.
#[test]
fn one_section_has_each_namespace() -> Result<()> {
    let test = "which";
    let [exact, first, both] = ["exact", "a1", "b1"].map(|name| Named::new(test, name));
    let (exact, first, both) = (exact?, first?, both?);
    let keys = [1, 2, 3].map(|number| KeyFile::new(&numbered(number)));
    let [one, two, three] = keys;
    let (one, two, three) = (one?, two?, three?);
    let with = |name: &str, keys: &KeyFile| {
        let more = format!("keys = {{ source = 'file', path = '{}' }}", keys.path());
        section(name, &more)
    };
    let all = pattern(test);
    let sections = [
        with(&all.replace('*', "[a-b]?"), &two),
        with(&all, &three),
        with(&exact.0, &one),
    ];
    // None of these has a process.
    let file = Named::of(test, "file");
    fs::write(file.path(), "")?;
    let bound = Named::of(test, "zbound");
    fs::write(bound.path(), "")?;
    programs::succeed(
        Command::new("mount")
            .arg("--bind")
            .args([first.path(), bound.path()]),
        LIMIT,
    )?;
    let link = Named::of(test, "zlink");
    symlink(both.path(), link.path())?;
    let nowhere = Named::of(test, "znowhere");
    symlink("/nowhere", nowhere.path())?;
    let outside = Netns::new("outside")?;

    let mut service = Service::start(test, &sections.concat())?;
    service.becomes(&[&exact, &first, &both])?;
    for (name, number) in [(&exact, 1), (&first, 2), (&both, 2)] {
        let key = format!("/proc/sys/{}", keys::SYSCTL.replace('.', "/"));
        let found = ip(&["netns", "exec", &name.0, "cat", &key])?;
        ensure!(found.trim() == numbered(number), "{}", name.0);
    }
    service
        .running
        .wait_for_log("no network namespace: left alone")?;
    service.is_well()?;

    // Under its other name it is taken over; the second pattern has it then.
    let cookie = first.cookie()?;
    let handle = fs::File::open(bound.path())?;
    first.delete()?;
    service.becomes(&[&exact, &both, &bound])?;
    ensure!(is_pinned(cookie));
    drop(handle);

    // The link leads to another one.
    fs::remove_file(link.path())?;
    symlink(outside.path(), link.path())?;
    service.becomes(&[&exact, &both, &bound, &link])?;
    kernel_gets(&outside, &numbered(3))?;
    fs::remove_file(link.path())?;
    service.becomes(&[&exact, &both, &bound])?;
    let output = service.running.end()?;
    let log = output.stdout + &output.stderr;
    ensure!(!log.contains("ERROR"), "{log}");
    Ok(())
}

/// Parsing the kernel's types takes more memory than all else, and only the service does it: each other process has a lower
/// peak.
fn ensure_parsed_once(service: u32, others: &[u32]) -> Result<()> {
    let peak = |pid: u32| -> Result<u64> {
        let text = status(pid, "VmHWM:")?;
        Ok(text.trim_end_matches(" kB").parse()?)
    };
    let others = others.iter().map(|pid| peak(*pid));
    let others = others.collect::<Result<Vec<_>>>()?;
    let (service, most) = (peak(service)?, others.into_iter().max());
    println!("peak memory: service {service} kB, one namespace {most:?}");
    ensure!(most.is_some_and(|most| 4 * most < 3 * service));
    Ok(())
}

#[test]
fn fifty_by_one_pattern_and_one_process_may_enter_them() -> Result<()> {
    let test = "fifty";
    let pods: Vec<_> = (0..50)
        .map(|number| Named::new(test, &format!("{number:02}")))
        .collect::<Result<_>>()?;
    let socket = env::temp_dir().join(format!("tfo-t{}-{test}.sock", process::id()));
    let file = KeyFile::new(&Service::text(&socket, &section(&pattern(test), "")))?;
    let begin = Instant::now();
    let mut running = Running::launch(Command::new(tfo::binary()), None, &["-c", file.path()])?;
    // It waits for who reads its notifications, so somebody has to, for longer than one wait.
    let ready = (0..MANY_WAITS).any(|_| running.wait_for("READY=1").is_ok());
    ensure!(ready, "{}", running.log());
    let service = Service {
        running,
        socket,
        file,
    };
    eventually("all are attached", || {
        let metrics = service.metrics()?;
        Ok(metrics.contains("tfo_namespaces{state=\"attached\"} 50\n"))
    })?;
    println!("50 namespaces: attached after {:?}", begin.elapsed());
    service.is_well()?;
    ensure!(service.attached()?.len() == 50);

    let pid = service.running.process.id();
    let all = descendants(pid);
    ensure!(
        all.len() == 51,
        "the helper and one process for each: {all:?}"
    );
    let may_enter = |pid: &u32| -> Result<bool> {
        let mut any = 0;
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let task = task?.file_name();
            let task: u32 = task.to_string_lossy().parse()?;
            for set in ["CapEff:", "CapPrm:", "CapInh:", "CapAmb:"] {
                any |= u64::from_str_radix(&status(task, set)?, 16)?;
            }
            ensure!(status(task, "NoNewPrivs:")? == "1");
        }
        Ok(any & SYS_ADMIN != 0)
    };
    ensure!(!may_enter(&pid)?, "the service");
    let privileged: Vec<_> = all
        .iter()
        .filter(|pid| may_enter(pid).unwrap_or(true))
        .collect();
    let [helper] = privileged[..] else {
        anyhow::bail!("{privileged:?} may enter namespaces");
    };
    println!(
        "anonymous memory: helper {}, service {}, one namespace {}",
        status(*helper, "RssAnon:")?,
        status(pid, "RssAnon:")?,
        status(all[all.len() - 1], "RssAnon:")?
    );
    ensure_parsed_once(pid, &all)?;
    // Whatever ends the service, nothing of it is left that holds a namespace.
    service.running.kill()?;
    eventually("no process is left", || {
        Ok(all.iter().all(|pid| is_gone(*pid)))
    })?;
    let cookies = pods.iter().map(Named::cookie).collect::<Result<Vec<_>>>()?;
    drop(pods);
    // The next service sweeps.
    let service = Service::start(test, &section(&pattern(test), ""))?;
    eventually("all pins are swept", || {
        Ok(!cookies.iter().any(|cookie| is_pinned(*cookie)))
    })?;
    service.running.end().map(drop)
}

/// The bound is 256; this service has a smaller one.
#[test]
fn more_than_the_bound_wait_until_one_goes() -> Result<()> {
    let test = "bound";
    let [first, second, third] = ["1", "2", "3"].map(|name| Named::new(test, name));
    let (first, second, third) = (first?, second?, third?);
    let mut command = Command::new(tfo::binary());
    command.env("TFO_TEST_MAX_MATCHED", "2");
    let mut service = Service::start_by(command, test, &section(&pattern(test), ""))?;
    service.becomes(&[&first, &second])?;
    let left_out = |number: u32| {
        let line = format!("tfo_namespaces{{state=\"left_out\"}} {number}\n");
        eventually(&line, || Ok(service.metrics()?.contains(&line)))
    };
    left_out(1)?;
    ensure!(!is_pinned(third.cookie()?));
    first.delete()?;
    service.becomes(&[&second, &third])?;
    left_out(0)?;
    service.is_well()?;
    let told = "1 network namespaces are left out, as patterns take 2 at most: ";
    service.running.wait_for_log(told)?;
    service.running.end().map(drop)
}

#[test]
fn the_helper_opens_what_was_configured_alone_and_is_needed() -> Result<()> {
    let pod = Named::new("helper", "1")?;
    let later = Named::new("later", "1")?;
    let sections = section(&pattern("helper"), "");
    let mut service = Service::start("helper", &sections)?;
    service.becomes(&[&pod])?;
    let more = sections + &section(&later.0, "");
    service
        .file
        .replace(&Service::text(&service.socket, &more))?;
    service.running.reload()?;
    service
        .running
        .wait_for_log("it was not configured when the service started")?;
    eventually("/healthz says so", || {
        let health = service.get("/healthz")?;
        Ok(health.status == 503 && health.body.contains(&later.0))
    })?;
    service.becomes(&[&pod])?;

    let helper = descendants(service.running.process.id())[0];
    let helper = Pid::from_raw(i32::try_from(helper)?).context("no process")?;
    kill_process(helper, Signal::KILL)?;
    let output = service.running.process.wait(LIMIT)?;
    ensure!(output.status.code() == Some(1), "{output:#?}");
    ensure!(
        output
            .stderr
            .contains("[[namespace]]: the helper process ended"),
        "{output:#?}"
    );
    Ok(())
}
