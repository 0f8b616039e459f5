//! Circles of files, and of folders.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt::Display,
    iter::successors,
    path::{Path, PathBuf},
};

use crate::command::repository;

use super::{
    resolve::Uses,
    source::{Modules, Names},
};

/// What uses itself by way of others, each circle as lines: the shortest through each file, and each once.
pub(super) fn circles(uses: &Uses) -> Vec<String> {
    let mut known = BTreeSet::new();
    uses.keys()
        .filter_map(|file| circle(uses, file))
        .filter(|circle| known.insert(circle.iter().copied().collect::<BTreeSet<_>>()))
        .map(|circle| told(uses, &circle))
        .collect()
}

/// The shortest circle through a file.
fn circle<'a>(uses: &'a Uses, start: &'a PathBuf) -> Option<Vec<&'a PathBuf>> {
    let mut came_from = BTreeMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(file) = queue.pop_front() {
        for next in uses.get(file).into_iter().flat_map(BTreeMap::keys) {
            if next == start {
                let back = successors(Some(file), |file| came_from.get(*file).copied());
                let mut circle: Vec<_> = back.collect();
                circle.reverse();
                return Some(circle);
            }
            if !came_from.contains_key(next) {
                came_from.insert(next, file);
                queue.push_back(next);
            }
        }
    }
    None
}

fn told(uses: &Uses, circle: &[&PathBuf]) -> String {
    let nexts = circle.iter().cycle().skip(1);
    let lines = circle.iter().zip(nexts).map(|(file, next)| {
        let names = uses.get(*file).and_then(|used| used.get(*next));
        let names: Vec<_> = names.into_iter().flatten().map(String::as_str).collect();
        format!(
            "  {} uses {}: {}\n",
            shown(file),
            shown(next),
            names.join(", ")
        )
    });
    lines.collect()
}

/// A file's path from the repository's top folder.
pub(super) fn shown(file: &Path) -> impl Display {
    file.strip_prefix(repository()).unwrap_or(file).display()
}

/// What modules beside each other use of each other, with all that is below them.
pub(super) fn between_siblings(modules: &Modules, uses: &Uses) -> Uses {
    let mut siblings = Uses::new();
    for (file, used) in uses {
        for (other, names) in used {
            let Some((from, to)) = name(modules, file).zip(name(modules, other)) else {
                continue;
            };
            let common = from.iter().zip(to).take_while(|(one, other)| one == other);
            let depth = common.count() + 1;
            // A module and what is below it are no siblings.
            if from.len() < depth || to.len() < depth {
                continue;
            }
            let [from, to] = [from, to].map(|name| name[..depth].join("::").into());
            let between = siblings.entry(from).or_default().entry(to).or_default();
            let place = |name| format!("{name} in {}", shown(file));
            between.extend(names.iter().map(place));
        }
    }
    siblings
}

/// The module in a file.
fn name<'a>(modules: &'a Modules, file: &Path) -> Option<&'a Names> {
    let mut named = modules.iter().filter(|(_, module)| module.file == file);
    named.next().map(|(name, _)| name)
}
