//! Documents that are read, and refused.

use super::*;
use crate::model::testing::key;

fn document(other: Option<Key>) -> Document {
    let state = FarmState {
        position: Position {
            epoch: 7,
            phase: Phase::Stage,
        },
        current: key(1),
        other,
        secrets: vec![key(5), key(6)],
    };
    let mut document = Document::first("f", state, 1_700_000_000_123, "web-1", "t");
    let members = &mut document.head.members;
    members.insert("web-1".to_owned(), "c".to_owned());
    document
}

fn seal(byte: u8) -> Secret {
    Secret::parse(&[byte; 32]).unwrap()
}

#[test]
fn a_document_survives_a_round_trip() {
    for other in [None, Some(key(2))] {
        let document = document(other);
        for seal in [None, Some(seal(1))] {
            let text = document.write(seal.as_ref()).unwrap();
            let read = Document::read(text.as_bytes(), seal.as_ref());
            assert!(read.ok().as_ref() == Some(&document), "{}", *text);
        }
    }
}

#[test]
fn what_is_sealed_shows_no_key_and_no_change() {
    let document = document(Some(key(2)));
    let text = document.write(Some(&seal(1))).unwrap();
    let plain = document.write(None).unwrap();
    let keys = plain.split(r#""keys":""#).nth(1).unwrap();
    assert!(!text.contains(&keys[..20]));
    let read =
        |text: &str, seal: Option<&Secret>| Document::read(text.as_bytes(), seal).err().unwrap();
    assert_eq!(read(&text, None), DocumentError::Sealed);
    assert_eq!(read(&text, Some(&seal(2))), DocumentError::Seal);
    assert_eq!(read(&plain, Some(&seal(1))), DocumentError::NotSealed);
    for (old, new) in [
        (r#""epoch":7"#, r#""epoch":8"#),
        (r#""serial":1"#, r#""serial":2"#),
        (r#""web-1":"c""#, r#""web-1":"d""#),
    ] {
        let changed = text.replace(old, new);
        assert_ne!(changed, *text);
        assert_eq!(read(&changed, Some(&seal(1))), DocumentError::Seal);
    }
}

#[test]
fn what_is_no_document_is_refused() {
    let plain = document(None).write(None).unwrap();
    let foreign = |text: &str| {
        let error = Document::read(text.as_bytes(), None).err().unwrap();
        assert!(
            matches!(error, DocumentError::Foreign(_)),
            "{text}: {error}"
        );
    };
    foreign("");
    foreign("{}");
    foreign(&plain[1..]);
    foreign(&plain.replace("writer", "author"));
    foreign(&plain.replace(r#""keys":""#, r#""keys":"A"#));
    foreign(&plain.replace(r#","keys""#, r#","sealed":"","keys""#));
    foreign(&format!("{}{}", *plain, " ".repeat(MAX_DOCUMENT)));
    let head = plain.split(r#""keys":""#).next().unwrap();
    for keys in [&[][..], &[2; 17], &[1; 40]] {
        foreign(&format!(r#"{head}"keys":"{}"}}"#, BASE64.encode(keys)));
    }
    let later = plain.replace(r#""format":2"#, r#""format":3,"more":[]"#);
    let read = |text: &str| Document::read(text.as_bytes(), None).err();
    assert_eq!(read(&later), Some(DocumentError::Format(3)));
    let other = document(Some(key(2))).head.other.unwrap();
    let changed = plain.replace(r#""other":null"#, &format!(r#""other":"{other}""#));
    assert_eq!(read(&changed), Some(DocumentError::Fingerprints));
}

#[test]
fn the_earlier_format_is_read_from_the_disk_alone() {
    let document = document(Some(key(2)));
    let head = EarlierHead {
        format: EARLIER,
        farm: "f".to_owned(),
        epoch: 7,
        phase: Phase::Stage,
        since: 5,
        writer: "web-1".to_owned(),
        current: document.head.current.clone(),
        other: document.head.other.clone(),
    };
    let context = serde_json::to_vec(&head).unwrap();
    let keys: Vec<u8> = [key(1), key(2)]
        .iter()
        .flat_map(|key| key.to_bytes())
        .collect();
    let sealed = super::seal(&seal(1), &context, Zeroizing::new(keys)).unwrap();
    let text = serde_json::to_string(&DocumentText {
        head,
        sealed: Some(sealed),
        keys: None,
    })
    .unwrap();
    let read = Document::read(text.as_bytes(), Some(&seal(1)));
    assert_eq!(read.err(), Some(DocumentError::Earlier));
    let stored = Document::read_stored(text.as_bytes(), Some(&seal(1)))
        .ok()
        .unwrap();
    assert!(stored.state.pair() == document.state.pair() && stored.head.serial == 0);
    assert!(stored.state.secrets.is_empty());
    let changed = text.replace(r#""epoch":7"#, r#""epoch":8"#);
    let read = Document::read_stored(changed.as_bytes(), Some(&seal(1)));
    assert_eq!(read.err(), Some(DocumentError::Seal));
}
