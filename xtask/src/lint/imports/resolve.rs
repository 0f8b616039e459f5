//! The file that defines what a path names.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use super::source::{Modules, Names};

/// Files, the files whose items each uses, and the names of these.
pub(super) type Uses = BTreeMap<PathBuf, BTreeMap<PathBuf, BTreeSet<String>>>;

/// Steps from import to import that are followed. A name that leads back to itself is that of an external crate.
const FOLLOWED: usize = 16;

/// What the last segment is where a module and a function have one name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sense {
    /// An import is of both. Where it is the function that is used, the code names it.
    Module,
    Item,
}

/// What a path leads to.
enum Place {
    Module(Names),
    /// An item, by the module that defines it.
    Item(Names),
}

/// What each file of a crate uses of the others.
pub(super) fn uses(modules: &Modules) -> Uses {
    let mut uses = Uses::new();
    for (at, module) in modules {
        let imports = module.imported.iter().map(|path| (path, Sense::Module));
        let code = module.named.iter().map(|path| (path, Sense::Item));
        for (path, sense) in imports.chain(code) {
            let file = definition(modules, at, path, sense);
            if let Some(other) = file.filter(|file| *file != module.file) {
                let of_file = uses.entry(module.file.clone()).or_default();
                let names = of_file.entry(other.to_owned()).or_default();
                names.insert(path.join("::"));
            }
        }
    }
    uses
}

/// The file with the item that `path` names in the module `at`; `None` for modules and for other crates.
fn definition<'a>(
    modules: &'a Modules,
    at: &Names,
    path: &[String],
    sense: Sense,
) -> Option<&'a Path> {
    match follow(modules, at, path, sense, FOLLOWED)? {
        Place::Item(module) => Some(&modules.get(&module)?.file),
        Place::Module(_) => None,
    }
}

fn follow(
    modules: &Modules,
    at: &Names,
    path: &[String],
    sense: Sense,
    left: usize,
) -> Option<Place> {
    let left = left.checked_sub(1)?;
    let mut at = at.clone();
    for (index, name) in path.iter().enumerate() {
        let is_last = index + 1 == path.len();
        let sense = if is_last { sense } else { Sense::Module };
        match name.as_str() {
            "crate" => at.clear(),
            "super" => drop(at.pop()?),
            "self" => {}
            _ => match step(modules, &at, name, sense, left) {
                Some(Place::Module(module)) => at = module,
                // An associated item or a variant follows.
                Some(item) => return Some(item),
                // What a macro defines is not seen, but in which module.
                None if index > 0 => return Some(Place::Item(at)),
                // Of another crate.
                None => return None,
            },
        }
    }
    Some(Place::Module(at))
}

/// What a name is in the module `at`.
fn step(modules: &Modules, at: &Names, name: &str, sense: Sense, left: usize) -> Option<Place> {
    let module = modules.get(at)?;
    let left = left.checked_sub(1)?;
    let child = || {
        let child = module.children.get(name)?.clone();
        Some(Place::Module([at.as_slice(), &[child]].concat()))
    };
    let item = || {
        if module.items.contains(name) {
            return Some(Place::Item(at.clone()));
        }
        follow(modules, at, module.imports.get(name)?, sense, left)
    };
    let own = match sense {
        Sense::Module => child().or_else(item),
        Sense::Item => item().or_else(child),
    };
    own.or_else(|| {
        module.globs.iter().find_map(|glob| {
            let Place::Module(all) = follow(modules, at, glob, Sense::Module, left)? else {
                return None;
            };
            step(modules, &all, name, sense, left)
        })
    })
}
