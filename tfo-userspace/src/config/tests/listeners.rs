//! The section `[listeners]`.

use super::*;
use crate::config::PortListeners;

fn listeners(section: &str) -> Result<Vec<(u16, PortListeners)>, String> {
    let parsed = parse(&format!("interfaces = [\"eth0\"]\n{section}"))?;
    let listeners = parsed.namespaces[0].listeners.clone();
    Ok(listeners.unwrap_or_default().into_iter().collect())
}

#[test]
fn each_port_has_its_queue() {
    let rule = |queue, process: Option<&str>| PortListeners {
        queue,
        process: process.map(str::to_owned),
    };
    assert_eq!(listeners("").unwrap(), []);
    let section = "[listeners.port.80]\n[listeners.port.443]\nqueue = 9\nprocess = \"node\"\n";
    let expected = [(80, rule(256, None)), (443, rule(9, Some("node")))];
    assert_eq!(listeners(section).unwrap(), expected);
}

#[test]
fn mistakes_have_their_line_and_remedy() {
    for (section, says) in [
        ("[listeners]", "add [listeners.port.443]"),
        ("[listeners.default]\nqueue = 9", "unknown field"),
        ("[listeners.port.http]", "is not from 1 to 65535"),
        ("[listeners.port.80]\nqueue = 0", "1"),
        ("[listeners.port.80]\n[listeners.port.080]", "already"),
    ] {
        let told = listeners(section).unwrap_err();
        assert!(told.contains(says) && told.contains("tfo.toml:"), "{told}");
    }
}
