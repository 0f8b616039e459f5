//! Crates with planted mistakes.

use super::*;

/// Writes a crate, and says what is wrong with it.
fn found(name: &str, files: &[(&str, &str)], page: &str) -> Vec<String> {
    let folder = repository().join("target/xtask-tests").join(name);
    let _ = fs::remove_dir_all(&folder);
    for (file, text) in files {
        let file = folder.join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
    let modules = source::modules(&folder.join("src/lib.rs")).unwrap();
    let uses = resolve::uses(&modules);
    let mut found = circular(&modules, &uses);
    if !page.is_empty() {
        let ranks = order::ranks(page, "the controller");
        found.extend(order::violations(&ranks, &modules, &uses).unwrap());
    }
    let place = "target/xtask-tests/";
    found.iter().map(|it| it.replace(place, "")).collect()
}

#[test]
fn imports_of_this_workspace_run_one_way() {
    check().unwrap();
}

#[test]
fn two_files_that_import_each_other_are_a_circle_even_where_a_macro_defines_the_item() {
    let files = [
        ("src/lib.rs", "mod a;\nmod b;\n"),
        ("src/a.rs", "use crate::b::B;\npub struct A(B);\n"),
        (
            "src/b.rs",
            "made! { pub struct B; }\nfn a() -> Option<super::a::A> { None }\n",
        ),
    ];
    let expected = "  circle/src/a.rs uses circle/src/b.rs: B, crate::b::B\n  \
                    circle/src/b.rs uses circle/src/a.rs: super::a::A\n";
    assert_eq!(found("circle", &files, ""), [expected]);
}

#[test]
fn a_circle_of_three_is_found_through_what_modules_pass_on_and_in_macros() {
    let files = [
        ("src/lib.rs", "mod a;\nmod b;\n"),
        ("src/a.rs", "use crate::b::inner;\npub fn a() { inner() }\n"),
        ("src/b/mod.rs", "mod c;\nmod d;\npub use c::*;\n"),
        (
            "src/b/c.rs",
            "use super::d;\npub fn inner() { assert!(d::d() > 0); }\n",
        ),
        (
            "src/b/d.rs",
            "pub fn d() -> u8 { println!(\"{:?}\", crate::a::a()); 1 }\n",
        ),
    ];
    let found = found("three", &files, "");
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].lines().count(), 3, "{found:?}");
    for part in [
        "c.rs uses three/src/b/d.rs: d::d",
        "d.rs uses three/src/a.rs: crate::a::a",
    ] {
        assert!(found[0].contains(part), "{found:?}");
    }
}

/// A parent that declares a module and passes on its items, a test below its subject, and a module and a function of one name.
#[test]
fn what_is_no_use_is_no_circle() {
    let files = [
        (
            "src/lib.rs",
            "mod a;\nmod work;\npub fn work() { a::a() }\n",
        ),
        (
            "src/a/mod.rs",
            "mod b;\npub use b::B;\npub fn a() {}\n#[cfg(test)]\nmod tests;\n",
        ),
        (
            "src/a/b.rs",
            "use super::a;\nuse crate::work;\npub struct B;\nfn b() { a(); work::work() }\n",
        ),
        ("src/a/tests.rs", "use super::*;\n#[test]\nfn b() { a() }\n"),
        ("src/work.rs", "pub fn work() {}\n"),
    ];
    assert!(found("none", &files, "").is_empty());
    // It uses the item itself, too.
    let both = "mod b;\npub use b::B;\npub fn a() -> B { B }\n";
    let files = [files[0], ("src/a/mod.rs", both), files[2], files[4]];
    assert_eq!(found("both", &files, "").len(), 1);
}

#[test]
fn folders_are_in_the_order_of_the_page() {
    let files = [
        ("src/lib.rs", "mod cli;\nmod keys;\nmod model;\n"),
        (
            "src/cli.rs",
            "use crate::model::Key;\nfn keys() -> Option<Key> { None }\n",
        ),
        ("src/keys.rs", "pub struct Set;\n"),
        ("src/model.rs", "pub struct Key(crate::keys::Set);\n"),
    ];
    let page = "In the controller: cli -> keys -> model.";
    let expected = "  order/src/model.rs uses crate::keys::Set\n";
    assert_eq!(found("order", &files, page), [expected]);
    let page = "In the controller: cli -> model -> keys.";
    assert!(found("order", &files, page).is_empty());
}

#[test]
fn folders_do_not_import_each_other_by_other_files() {
    let files = [
        ("src/lib.rs", "mod a;\nmod b;\n"),
        ("src/a/mod.rs", "mod one;\nmod two;\n"),
        ("src/a/one.rs", "fn one() { crate::b::one::one() }\n"),
        ("src/a/two.rs", "pub fn two() {}\n"),
        ("src/b/mod.rs", "pub mod one;\nmod two;\n"),
        ("src/b/one.rs", "pub fn one() {}\n"),
        ("src/b/two.rs", "fn two() { crate::a::two::two() }\n"),
    ];
    let expected = "  a uses b: crate::b::one::one in folders/src/a/one.rs\n  \
                    b uses a: crate::a::two::two in folders/src/b/two.rs\n";
    assert_eq!(found("folders", &files, ""), [expected]);
}
