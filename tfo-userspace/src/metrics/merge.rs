//! One text of metrics from those of several processes.

use std::collections::BTreeMap;

/// The start of a metric family in Prometheus's text format, as the encoder writes it.
const HELP: &str = "# HELP ";

/// The families of `first`, with the samples of `others` that belong to them, then those that `first` lacks: a family may
/// stand in a text once. A scrape has as many samples as there are namespaces, so each text is read once.
pub(super) fn merge<'a>(first: &str, others: impl Iterator<Item = &'a str>) -> String {
    let mut order = Vec::new();
    let mut families: BTreeMap<&str, String> = BTreeMap::new();
    let others: Vec<_> = others.collect();
    for text in std::iter::once(first).chain(others.iter().copied()) {
        for (name, block) in blocks(text) {
            match families.get_mut(name) {
                None => {
                    order.push(name);
                    families.insert(name, block.to_owned());
                }
                Some(family) => {
                    for line in block
                        .split_inclusive('\n')
                        .filter(|line| !line.starts_with('#'))
                    {
                        family.push_str(line);
                    }
                }
            }
        }
    }
    order
        .into_iter()
        .filter_map(|name| families.remove(name))
        .collect()
}

/// The families of a text, by name.
fn blocks(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut starts: Vec<_> = text.match_indices(HELP).map(|(at, _)| at).collect();
    // In a label's value, it is no line's beginning.
    starts.retain(|at| *at == 0 || text.as_bytes()[*at - 1] == b'\n');
    let ends: Vec<_> = starts.iter().copied().skip(1).chain([text.len()]).collect();
    starts.into_iter().zip(ends).filter_map(|(start, end)| {
        let block = &text[start..end];
        let name = block[HELP.len()..].split([' ', '\n']).next()?;
        Some((name, block))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_family_stands_once() {
        let first =
            "# HELP a A.\n# TYPE a gauge\na 1\n# HELP b B.\n# TYPE b gauge\nb{x=\"# HELP q\"} 1\n";
        let other = "# HELP b B.\n# TYPE b gauge\nb{x=\"2\"} 2\n# HELP c C.\n# TYPE c gauge\nc 3\n";
        assert_eq!(
            merge(first, [other, other].into_iter()),
            "# HELP a A.\n# TYPE a gauge\na 1\n\
             # HELP b B.\n# TYPE b gauge\nb{x=\"# HELP q\"} 1\nb{x=\"2\"} 2\nb{x=\"2\"} 2\n\
             # HELP c C.\n# TYPE c gauge\nc 3\nc 3\n"
        );
        assert_eq!(merge("", std::iter::empty()), "");
    }
}
