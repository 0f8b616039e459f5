//! A crate's modules, and the paths that each of them names.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, mem,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use proc_macro2::{TokenStream, TokenTree};
use syn::{
    Expr, ExprLit, Item, ItemMod, ItemUse, Lit, Macro, Meta, MetaList, UseTree, Visibility,
    visit::{self, Visit},
};

/// A path's segments: `crate::a::B`.
pub(super) type Names = Vec<String>;

/// The modules of a crate, by their paths from its root.
pub(super) type Modules = BTreeMap<Names, Module>;

/// A module.
#[derive(Debug, Default)]
pub(super) struct Module {
    /// Its file, which an inline module shares with the one around it.
    pub(super) file: PathBuf,
    /// Modules that it declares.
    pub(super) children: BTreeSet<String>,
    /// Items that it defines.
    pub(super) items: BTreeSet<String>,
    /// Names that it imports, with the path of each.
    pub(super) imports: BTreeMap<String, Names>,
    /// Modules of which it imports all names.
    pub(super) globs: BTreeSet<Names>,
    /// The paths that it imports for itself. Those that it passes on, and no more, are in [`Module::imports`] alone.
    pub(super) imported: BTreeSet<Names>,
    /// The paths in its code.
    pub(super) named: BTreeSet<Names>,
}

/// Reads the crate whose root is this file.
///
/// # Errors
///
/// A file cannot be read, or is not Rust.
pub(super) fn modules(root: &Path) -> Result<Modules> {
    let mut modules = Modules::new();
    let folder = root.parent().context("a crate has no folder")?;
    read(&mut modules, root, folder, Vec::new())?;
    Ok(modules)
}

/// Adds the module in `file`, and those below it. The files of its children are in `folder`.
fn read(modules: &mut Modules, file: &Path, folder: &Path, name: Names) -> Result<()> {
    let context = || format!("cannot read {}", file.display());
    let text = fs::read_to_string(file).with_context(context)?;
    let items = syn::parse_file(&text).with_context(context)?.items;
    add(modules, &items, file, folder, name)
}

fn add(
    modules: &mut Modules,
    items: &[Item],
    file: &Path,
    folder: &Path,
    name: Names,
) -> Result<()> {
    let mut reader = Reader {
        module: Module {
            file: file.to_owned(),
            ..Module::default()
        },
        children: Vec::new(),
    };
    for item in items {
        reader.module.items.extend(defined(item));
        reader.visit_item(item);
    }
    for child in &reader.children {
        let own = child.ident.to_string();
        let child_name = [name.clone(), vec![own.clone()]].concat();
        let below = folder.join(&own);
        if let Some((_, items)) = &child.content {
            add(modules, items, file, &below, child_name)?;
            continue;
        }
        if let Some(path) = path_attribute(child) {
            let file = file.with_file_name(path).canonicalize()?;
            // As a crate's root, it has its children beside it.
            let folder = file.parent().context("a module has no folder")?;
            read(modules, &file, folder, child_name)?;
            continue;
        }
        let beside = folder.join(format!("{own}.rs"));
        let file = if beside.is_file() {
            beside
        } else {
            below.join("mod.rs")
        };
        read(modules, &file, &below, child_name)?;
    }
    modules.insert(name, reader.module);
    Ok(())
}

/// The name of an item, except for modules and imports.
fn defined(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::TraitAlias(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(name.to_string())
}

/// The file in `#[path = "FILE"]`.
fn path_attribute(module: &ItemMod) -> Option<String> {
    module.attrs.iter().find_map(|attribute| {
        let Meta::NameValue(meta) = &attribute.meta else {
            return None;
        };
        match &meta.value {
            Expr::Lit(ExprLit {
                lit: Lit::Str(text),
                ..
            }) if meta.path.is_ident("path") => Some(text.value()),
            _ => None,
        }
    })
}

/// Collects what a module names.
struct Reader<'a> {
    module: Module,
    children: Vec<&'a ItemMod>,
}

impl<'a> Visit<'a> for Reader<'a> {
    fn visit_item_mod(&mut self, module: &'a ItemMod) {
        self.module.children.insert(module.ident.to_string());
        self.children.push(module);
    }

    fn visit_item_use(&mut self, item: &'a ItemUse) {
        if item.leading_colon.is_none() {
            let passes_on = !matches!(item.vis, Visibility::Inherited);
            self.import(&item.tree, &[], passes_on);
        }
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        if path.leading_colon.is_none() {
            let names = path.segments.iter().map(|each| each.ident.to_string());
            self.module.named.insert(names.collect());
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, invocation: &'a Macro) {
        self.visit_path(&invocation.path);
        self.tokens(invocation.tokens.clone());
    }

    fn visit_meta_list(&mut self, list: &'a MetaList) {
        self.tokens(list.tokens.clone());
    }
}

impl Reader<'_> {
    fn import(&mut self, tree: &UseTree, before: &[String], passes_on: bool) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        let (name, path) = match tree {
            UseTree::Path(tree) => return self.import(&tree.tree, &with(&tree.ident), passes_on),
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.import(tree, before, passes_on);
                }
                return;
            }
            UseTree::Glob(_) => {
                self.module.globs.insert(before.to_vec());
                return;
            }
            UseTree::Name(tree) if tree.ident == "self" => {
                let last = before.last().cloned().unwrap_or_default();
                (last, before.to_vec())
            }
            UseTree::Name(tree) => (tree.ident.to_string(), with(&tree.ident)),
            UseTree::Rename(tree) => (tree.rename.to_string(), with(&tree.ident)),
        };
        if !passes_on {
            self.module.imported.insert(path.clone());
        }
        self.module.imports.insert(name, path);
    }

    /// Takes what looks like a path from the tokens of a macro or an attribute.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path = Names::new();
        // The marks right before a token.
        let mut before = [' '; 2];
        for token in tokens {
            let mark = match token {
                // Not a field or a method, but perhaps the end of a range.
                TokenTree::Ident(name) if before[1] != '.' || before[0] == '.' => {
                    if before != [':'; 2] {
                        self.module.named.insert(mem::take(&mut path));
                    }
                    path.push(name.to_string());
                    ' '
                }
                TokenTree::Group(group) => {
                    self.tokens(group.stream());
                    ' '
                }
                TokenTree::Punct(mark) => mark.as_char(),
                _ => ' ',
            };
            before = [before[1], mark];
        }
        self.module.named.insert(path);
    }
}
