//! A farm without etcd: hosts derive their keys from a secret and the clock, some with `tfo run`, some with an
//! independent implementation of the schedule.

use std::{thread, time::Duration};

use anyhow::{Result, ensure};
use tfo_testbed::{kernel::TcpExt, keys, process::Background, prometheus::Scratch};

use super::{
    host::{Farm, Host, eventually},
    traffic::Traffic,
};

/// tofurkey's schedule. It writes the sysctl of its namespace five times a second.
const FOLLOW: &str = r#"
import hashlib, struct, sys, time
secret, interval = bytes.fromhex(sys.argv[1]), int(sys.argv[2])
def key(n):
    digest = hashlib.blake2b(digest_size=16, key=secret, salt=struct.pack("<Q", n) + bytes(8),
        person=b"tofurkey" + bytes(8)).hexdigest()
    return "-".join(digest[i:i + 8] for i in range(0, 32, 8))
last = None
while True:
    now = time.time()
    n = int(now // interval)
    late = int(now) % interval >= interval // 2
    keys = key(n) + "," + key(n + 1 if late else n - 1)
    if keys != last:
        with open("/proc/sys/net/ipv4/tcp_fastopen_key", "w") as file:
            file.write(keys)
        last = keys
    time.sleep(0.2)
"#;
const HOSTS: usize = 5;
const INTERVAL: u64 = 10;

#[test]
fn hosts_that_derive_their_keys_agree_whoever_derives_them() -> Result<()> {
    let scratch = Scratch::new()?;
    let secret = "a7".repeat(32);
    let file = keys::KeyFile::new(&secret)?;
    let config = |_: &str| {
        format!(
            "interfaces = [\"server0\"]\n[keys]\nsource = \"secret\"\npath = \"{}\"\ninterval = \"{INTERVAL}s\"\n",
            file.path()
        )
    };
    let (mut hosts, clients) = Farm::join(HOSTS, &scratch, None, &config)?;
    let mut followers = Vec::new();
    for (number, host) in hosts.iter_mut().enumerate() {
        host.offset_is(0);
        if number < 3 {
            host.start()?;
        } else {
            let mut python = host.netns.command("python3");
            let interval = INTERVAL.to_string();
            followers.push(Background::start(
                python.args(["-c", FOLLOW, &secret, &interval]),
            )?);
        }
    }
    let agree = |hosts: &[Host]| -> Result<Option<String>> {
        let keys: Vec<_> = hosts.iter().map(Host::keys).collect::<Result<_>>()?;
        // A kernel without keys shows one key of zeros.
        let same = |it: &String| *it == keys[0] && it.contains(',');
        Ok(keys.iter().all(same).then(|| keys[0].clone()))
    };
    eventually("all hosts have the same keys", || {
        Ok(agree(&hosts)?.is_some())
    })?;
    let before = hosts.iter().map(|host| TcpExt::read(&host.netns));
    let before: Vec<_> = before.collect::<Result<_>>()?;
    let traffic = Traffic::start(&hosts, &clients)?;
    let mut last = String::new();
    let mut changes = 0;
    while changes < 6 {
        eventually("they change together", || match agree(&hosts)? {
            Some(keys) if keys != last => {
                last = keys;
                Ok(true)
            }
            _ => Ok(false),
        })?;
        changes += 1;
        thread::sleep(Duration::from_millis(500));
    }
    let came = traffic.stop();
    let mut sums = [0; 3];
    for (host, before) in hosts.iter().zip(&before) {
        let now = TcpExt::read(&host.netns)?.since(before);
        let names = [
            "TCPFastOpenPassive",
            "TCPFastOpenPassiveAltKey",
            "TCPFastOpenPassiveFail",
        ];
        for (sum, name) in sums.iter_mut().zip(names) {
            *sum += now.get(name);
        }
    }
    println!("{changes} changes, {came}, in the SYN, by the backup key, refused: {sums:?}");
    ensure!(
        sums[0] > 0 && sums[2] == 0 && came.failures == 0,
        "{sums:?} {came}"
    );
    Ok(())
}
