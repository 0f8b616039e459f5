//! Key sources, and key changes by other processes.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    process::Command,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Result, ensure};
use tfo_testbed::{
    keys::{self, KeyFile},
    netns::Netns,
    process,
    seed::rng_with,
    socket::Method,
    testbed::Testbed,
    tfo::LIMIT,
    veth::{Family, Pair, SERVER_INTERFACE},
};
use tfo_userspace::{
    kernel::clock::Now,
    keys::{Secret, SecretSchedule},
};

use super::running::{
    Running, by_file, count, ensure_accepted, eventually, fingerprints, fingerprints_of,
    kernel_gets, numbered,
};

/// A Python implementation of the key schedule: prints the key pair of each secret, interval and time, one a line.
const DERIVE: &str = r#"
import hashlib, struct, sys
for line in sys.argv[1].split("\n"):
    secret, interval, time = line.split()
    interval, time = int(interval), int(time)
    n = time // interval
    other = n + 1 if time % interval >= interval // 2 else n - 1
    def key(n):
        digest = hashlib.blake2b(digest_size=16, key=bytes.fromhex(secret),
            salt=struct.pack("<Q", n) + bytes(8), person=b"tofurkey" + bytes(8)).hexdigest()
        return "-".join(digest[i:i + 8] for i in range(0, 32, 8))
    print(key(n) + "," + key(other))
"#;

fn derived(lines: &str) -> Result<Vec<String>> {
    let output = process::succeed(Command::new("python3").args(["-c", DERIVE, lines]), LIMIT)?;
    Ok(output.lines().map(str::to_owned).collect())
}

#[test]
fn derived_keys_are_those_that_python_derives() -> Result<()> {
    let mut random = rng_with(7)?;
    let cases: Vec<(String, u64, u64)> = (0..1000)
        .map(|_| {
            let secret = format!("{:032x}{:032x}", random.u128(..), random.u128(..));
            let interval = 2 * random.u64(5..302_400);
            (secret, interval, random.u64(interval..5_000_000_000))
        })
        .collect();
    let lines: Vec<String> = cases
        .iter()
        .map(|(secret, interval, time)| format!("{secret} {interval} {time}"))
        .collect();
    let expected = derived(&lines.join("\n"))?;
    ensure!(expected.len() == cases.len());
    for ((secret, interval, time), expected) in cases.iter().zip(expected) {
        let now = Now {
            wall: Duration::from_secs(*time),
            boot: Duration::from_secs(1),
        };
        let schedule = SecretSchedule::new(Duration::from_secs(*interval), None, now);
        let plan = schedule.plan(&Secret::parse(secret.as_bytes())?, now);
        ensure!(*plan.pair.to_text() == expected, "{interval} {time}");
    }
    Ok(())
}

/// The key pair that Python derives for the present time.
fn derived_now(secret: &str, interval: u64) -> Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    Ok(derived(&format!("{secret} {interval} {now}"))?.swap_remove(0))
}

/// The shortest interval allowed, to keep the tests short.
const INTERVAL: u64 = 10;

fn by_secret(server: &Netns, file: &KeyFile) -> Result<Running> {
    let mut arguments = by_file(file);
    arguments[3] = "secret";
    Running::start(
        Some(server),
        &[&arguments as &[_], &["--interval", "10s"]].concat(),
    )
}

/// Waits until the kernel has the present keys.
fn kernel_gets_derived(server: &Netns, secret: &str) -> Result<()> {
    eventually("the kernel has the derived keys", || {
        Ok(server.sysctl(keys::SYSCTL)? == derived_now(secret, INTERVAL)?)
    })
    .map(drop)
}

#[test]
fn a_secret_gives_keys_even_after_its_file_has_become_useless() -> Result<()> {
    let testbed = Testbed::idle(Pair::new()?)?;
    let server = &testbed.pair.server;
    let secret = "5c".repeat(32);
    let file = KeyFile::new(&secret)?;
    let mut running = by_secret(server, &file)?;
    let listener = testbed.listen(Family::V4)?;
    testbed.request_cookie(&listener, Family::V4)?;
    kernel_gets_derived(server, &secret)?;
    let spoil: [&dyn Fn() -> std::io::Result<()>; 2] = [
        &|| fs::set_permissions(file.path(), fs::Permissions::from_mode(0o640)),
        &|| fs::remove_file(file.path()),
    ];
    for spoil in spoil {
        spoil()?;
        let before = server.sysctl(keys::SYSCTL)?;
        eventually("half an interval passed", || {
            Ok(server.sysctl(keys::SYSCTL)? != before)
        })?;
        kernel_gets_derived(server, &secret)?;
        // A client that connects at least once in half an interval always has a valid cookie.
        testbed.in_syn(&listener, Family::V4, Method::SendTo)?;
    }
    ensure_accepted(&testbed.tfo)?;
    fs::write(file.path(), &secret)?;
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o600))?;
    running.wait_for_log("the last error is resolved")?;
    let output = running.end()?;
    let log = output.stdout + &output.stderr;
    for fault in ["mode 0640", "No such file", "the last error is resolved"] {
        ensure!(count(&log, fault) == 1, "{fault}: {log}");
    }
    ensure!(!log.contains(&secret), "a secret is logged");
    ensure!(testbed.kernel()?.get("TCPFastOpenPassiveFail") == 0);
    Ok(())
}

/// Waits until the primary key will not change for some seconds.
fn wait_for_quiet() -> Result<()> {
    const QUIET: Duration = Duration::from_secs(4);
    let interval = Duration::from_secs(INTERVAL).as_nanos();
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let left = Duration::from_nanos((interval - now.as_nanos() % interval) as u64);
    if left < QUIET {
        thread::sleep(left);
    }
    Ok(())
}

#[test]
fn another_secret_refuses_no_cookie_of_the_one_before() -> Result<()> {
    let testbed = Testbed::idle(Pair::new()?)?;
    let server = &testbed.pair.server;
    let [secret, other] = ["5c", "a7"].map(|byte| byte.repeat(32));
    let file = KeyFile::new(&secret)?;
    let running = by_secret(server, &file)?;
    // A change of the primary key would replace the other secret's last key.
    wait_for_quiet()?;
    kernel_gets_derived(server, &secret)?;
    let listener = testbed.listen(Family::V4)?;
    testbed.request_cookie(&listener, Family::V4)?;
    file.replace(&other)?;
    eventually("the other secret's key is primary", || {
        let expected = derived_now(&other, INTERVAL)?;
        let now = server.sysctl(keys::SYSCTL)?;
        Ok(now.split(',').next() == expected.split(',').next())
    })?;
    testbed.in_syn(&listener, Family::V4, Method::SendTo)?;
    let output = running.end()?;
    ensure!(!output.stderr.contains("ERROR"), "{output:#?}");
    ensure!(testbed.kernel()?.get("TCPFastOpenPassiveFail") == 0);
    Ok(())
}

#[test]
fn a_key_file_is_followed_as_it_is_replaced() -> Result<()> {
    let testbed = Testbed::idle(Pair::new()?)?;
    let server = &testbed.pair.server;
    let file = KeyFile::new(&numbered(1))?;
    let mut running = Running::start(Some(server), &by_file(&file))?;
    kernel_gets(server, &numbered(1))?;
    let pair = format!("{},{}", numbered(2), numbered(1));
    file.replace(&pair)?;
    kernel_gets(server, &pair)?;
    eventually("the data path follows", || {
        let [kernel, accepted] = fingerprints(&testbed.tfo)?;
        Ok(kernel == accepted && kernel == fingerprints_of(&pair)?)
    })?;
    for (broken, error) in [
        ("1-2-3", "has 3 groups"),
        ("", "no key"),
        ("neither", "has 1 groups"),
    ] {
        file.replace(broken)?;
        running.wait_for_log(error)?;
        ensure!(server.sysctl(keys::SYSCTL)? == pair, "{broken:?}");
    }
    fs::remove_file(file.path())?;
    running.wait_for_log("No such file")?;
    // Time to say it again, which it must not.
    thread::sleep(Duration::from_millis(1200));
    ensure!(server.sysctl(keys::SYSCTL)? == pair);
    fs::write(file.path(), numbered(3))?;
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o600))?;
    kernel_gets(server, &numbered(3))?;
    let output = running.end()?;
    let log = output.stdout + &output.stderr;
    ensure!(count(&log, "No such file") == 1, "{log}");
    Ok(())
}

#[test]
fn keys_of_others_in_the_kernel_are_followed() -> Result<()> {
    let testbed = Testbed::idle(Pair::new()?)?;
    let server = &testbed.pair.server;
    server.set_sysctl(keys::SYSCTL, &numbered(1))?;
    let running = Running::start(
        Some(server),
        &[
            "-i",
            SERVER_INTERFACE,
            "--key-source",
            "kernel",
            "--mirror",
            "packet",
        ],
    )?;
    ensure!(server.sysctl(keys::SYSCTL)? == numbered(1));
    let pair = format!("{},{}", numbered(2), numbered(1));
    server.set_sysctl(keys::SYSCTL, &pair)?;
    let took = eventually("the data path follows", || {
        Ok(fingerprints(&testbed.tfo)?[1] == fingerprints_of(&pair)?)
    })?;
    println!("followed after {took:?}");
    ensure!(server.sysctl(keys::SYSCTL)? == pair);
    running.end().map(drop)
}

#[test]
fn a_foreign_change_is_noticed() -> Result<()> {
    for (action, followed) in [("restore", false), ("follow", true)] {
        let testbed = Testbed::idle(Pair::new()?)?;
        let server = &testbed.pair.server;
        server.set_sysctl(keys::SYSCTL, &numbered(1))?;
        let arguments = ["-i", SERVER_INTERFACE, "--on-foreign-change", action];
        let running = Running::start(Some(server), &arguments)?;
        let listener = testbed.listen(Family::V4)?;
        testbed.request_cookie(&listener, Family::V4)?;
        server.set_sysctl(keys::SYSCTL, &numbered(8))?;
        let expected = if followed { numbered(8) } else { numbered(1) };
        let theirs = fingerprints_of(&expected)?;
        // Half a second, more on a busy machine.
        let took = eventually("both sides have the keys", || {
            let [kernel, accepted] = fingerprints(&testbed.tfo)?;
            Ok(kernel == theirs && accepted.starts_with(&theirs))
        })?;
        println!("{action}: {took:?}");
        if !followed {
            testbed.in_syn(&listener, Family::V4, Method::SendTo)?;
        }
        let output = running.end()?;
        let log = output.stdout + &output.stderr;
        ensure!(
            count(&log, "someone else changed net.ipv4.tcp_fastopen_key") == 1,
            "{log}"
        );
        ensure!(!log.contains("0badcafe"), "a key is logged: {log}");
    }
    Ok(())
}

#[test]
fn an_operators_rotation_is_not_foreign() -> Result<()> {
    let testbed = Testbed::idle(Pair::new()?)?;
    let running = Running::start(Some(&testbed.pair.server), &["-i", SERVER_INTERFACE])?;
    testbed.tfo.done(&["keys", "rotate"])?;
    let rotated = testbed.pair.server.sysctl(keys::SYSCTL)?;
    // After it has noticed, the service stages the next key: the data path accepts three.
    eventually("the service goes on from there", || {
        Ok(fingerprints(&testbed.tfo)?[1].len() == 3)
    })?;
    ensure!(testbed.pair.server.sysctl(keys::SYSCTL)? == rotated);
    let output = running.end()?;
    let log = output.stdout + &output.stderr;
    ensure!(!log.contains("someone else"), "{log}");
    Ok(())
}
