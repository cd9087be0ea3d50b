//! Within a floor, too, files lie above and below each other: what one uses does not use it, nor do others on the way.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{code, sources};

/// A path in a file: how it was written, and the name that it has there.
struct Mention<'a> {
    /// By `pub use`: others find the name here.
    given_on: bool,
    name: &'a str,
    path: Vec<&'a str>,
}

/// The paths of a `use` tree, and their names: `a::{self, b, c::{d as e}}` gives `a`, `a::b` and `a::c::d`.
fn leaves<'a>(tree: &'a str, above: &[&'a str]) -> Vec<(Vec<&'a str>, &'a str)> {
    let (before, list) = tree.split_once('{').map_or((tree, None), |(before, list)| (before, Some(list)));
    let (before, alias) =
        before.split_once(" as ").map_or((before, None), |(before, alias)| (before, Some(alias.trim())));
    let own = before.split("::").map(str::trim).filter(|name| !name.is_empty());
    let own = own.filter(|name| above.is_empty() || *name != "self");
    let path: Vec<&str> = above.iter().copied().chain(own).collect();
    let Some(list) = list else {
        let name = alias.or(path.last().copied());
        return name.filter(|_| !before.trim().is_empty()).map(|name| (path, name)).into_iter().collect();
    };
    let list = list.rsplit_once('}').map_or(list, |(inside, _)| inside);
    let mut depth = 0;
    let parts = list.split(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    parts.flat_map(|part| leaves(part, &path)).collect()
}

/// All paths that `use` declares, and all that begin at the crate or at a module above.
fn mentions(code: &str) -> Vec<Mention<'_>> {
    let (mut all, mut declared) = (Vec::new(), Vec::new());
    for (at, word) in code.match_indices("use ") {
        let line = code[..at].rfind('\n').map_or(0, |end| end + 1);
        let before = code[line..at].trim();
        if before.is_empty() || before == "pub" || before.starts_with("pub(") && before.ends_with(')') {
            let tree = code[at + word.len()..].split(';').next().unwrap_or_default();
            declared.push(at..at + word.len() + tree.len());
            let given_on = !before.is_empty();
            all.extend(leaves(tree, &[]).into_iter().map(|(path, name)| Mention { given_on, name, path }));
        }
    }
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    for (at, _) in ["crate::", "super::", "self::"].iter().flat_map(|root| code.match_indices(root)) {
        // `pub(in crate::a)` says who may use a thing.
        let within = code[..at].ends_with(is_part) || code[..at].ends_with("pub(in ");
        if !within && !declared.iter().any(|range| range.contains(&at)) {
            let path = code[at..].split(|c| !is_part(c)).next().unwrap_or_default();
            let path = path.split("::").filter(|name| !name.is_empty()).collect();
            all.push(Mention { given_on: false, name: "", path });
        }
    }
    all
}

/// Files by their modules, and what stands for another path in each.
struct Modules<'a> {
    files: HashMap<Vec<&'a str>, &'a str>,
    given_on: HashMap<Vec<&'a str>, HashMap<&'a str, Vec<&'a str>>>,
}

impl<'a> Modules<'a> {
    /// The module of a file: `ops/conv/mod.rs` is `ops::conv`.
    fn of(file: &str) -> Vec<&str> {
        let file = file.strip_suffix(".rs").unwrap_or(file);
        file.split('/').filter(|part| !["mod", "lib"].contains(part)).collect()
    }

    /// A path from the root of the crate, where it is one of the crate's own.
    fn whole(&self, path: &[&'a str], file: &'a str) -> Option<Vec<&'a str>> {
        let mut from = Self::of(file);
        match path.first()? {
            &"crate" => return Some(path[1..].to_vec()),
            &("super" | "self") => {}
            child => {
                let is_module = self.files.contains_key(&[&from[..], &[*child]].concat());
                return is_module.then(|| [&from, path].concat());
            }
        }
        let ups = path.iter().take_while(|name| ["super", "self"].contains(name));
        let rest = &path[ups.clone().count()..];
        from.truncate(from.len().checked_sub(ups.filter(|name| **name == "super").count())?);
        Some([&from, rest].concat())
    }

    /// The file in which a path from the root of the crate ends, through what modules give on.
    fn home(&self, mut path: Vec<&'a str>) -> Option<&'a str> {
        for _ in 0..8 {
            let divided = (0..=path.len()).rev().map(|at| path.split_at(at));
            let (module, rest) = divided.into_iter().find(|(module, _)| self.files.contains_key(*module))?;
            let target = rest.first().and_then(|name| self.given_on.get(module)?.get(name));
            let Some(target) = target else { return self.files.get(module).copied() };
            path = [target, &rest[1..]].concat();
        }
        None
    }
}

/// What each file uses of its own floor. A `mod.rs` does not use the names that it gives on: those who ask for them do.
fn used_within_floors(sources: &[(String, String)]) -> BTreeMap<String, BTreeSet<String>> {
    let codes: Vec<(&str, String)> = sources.iter().map(|(file, text)| (&file[..], code(text))).collect();
    let all: Vec<_> = codes.iter().map(|(file, code)| (*file, mentions(code))).collect();
    let files = codes.iter().map(|(file, _)| (Modules::of(file), *file)).collect();
    let mut modules = Modules { files, given_on: HashMap::new() };
    for (file, mentions) in &all {
        let given_on = mentions.iter().filter(|mention| mention.given_on);
        let given_on = given_on.filter_map(|m| Some((m.name, modules.whole(&m.path, file)?))).collect();
        modules.given_on.insert(Modules::of(file), given_on);
    }
    let floor = |file: &str| file.split('/').next().map(String::from);
    let used = |file: &str, mentions: &[Mention<'_>]| {
        let own = mentions.iter().filter(|mention| !(mention.given_on && file.ends_with("mod.rs")));
        let homes = own.filter_map(|mention| modules.home(modules.whole(&mention.path, file)?));
        homes.filter(|home| *home != file && floor(home) == floor(file)).map(String::from).collect()
    };
    all.iter().map(|(file, mentions)| (file.to_string(), used(file, mentions))).collect()
}

/// The files that a file uses, be it through others.
fn reached<'a>(file: &'a str, used: &'a BTreeMap<String, BTreeSet<String>>) -> BTreeSet<&'a String> {
    let (mut found, mut next) = (BTreeSet::new(), vec![file]);
    while let Some(file) = next.pop() {
        next.extend(used[file].iter().filter(|file| found.insert(*file)).map(String::as_str));
    }
    found
}

/// Files that use each other, be it through others: of each circle its files, and what they use of it.
fn circles(sources: &[(String, String)]) -> Vec<String> {
    let used = used_within_floors(sources);
    let reached: BTreeMap<&String, BTreeSet<&String>> =
        used.keys().map(|file| (file, reached(file, &used))).collect();
    let circle = |(file, after): (&&String, &BTreeSet<&String>)| -> BTreeSet<String> {
        after.iter().filter(|other| reached[*other].contains(*file)).map(|other| other.to_string()).collect()
    };
    let all: BTreeSet<BTreeSet<String>> = reached.iter().map(circle).collect();
    let line = |file: &String, circle: &BTreeSet<String>| {
        let used: Vec<String> = used[file].intersection(circle).map(|file| format!("src/{file}")).collect();
        format!("src/{file} uses {}", used.join(", "))
    };
    let told = |circle: &BTreeSet<String>| {
        circle.iter().map(|file| line(file, circle)).collect::<Vec<_>>().join("\n  ")
    };
    all.iter().filter(|circle| !circle.is_empty()).map(told).collect()
}

#[test]
fn no_circles_inside_a_floor() {
    let sources = sources();
    let uses: usize = used_within_floors(&sources).values().map(BTreeSet::len).sum();
    assert!(uses > 300, "only {uses} uses within floors were found");
    let circles = circles(&sources);
    let how = "move what both need into a file below them";
    assert!(circles.is_empty(), "files use each other in circles; {how}:\n  {}", circles.join("\n\n  "));
}

#[test]
fn circles_are_found() {
    let found = |files: &[(&str, &str)]| {
        let own = |(file, text): &(&str, &str)| (file.to_string(), text.to_string());
        circles(&files.iter().map(own).collect::<Vec<_>>())
    };
    // Straight, and through a third file.
    let straight = [("a/x.rs", "use super::y::Y;"), ("a/y.rs", "fn f() { crate::a::x::g() }")];
    assert_eq!(found(&straight), ["src/a/x.rs uses src/a/y.rs\n  src/a/y.rs uses src/a/x.rs"]);
    let third = ("a/z.rs", "use super::{\n    v::V,\n    x::{self, X},\n};");
    let through = [("a/x.rs", "use crate::a::y::{Y as Z, W};"), ("a/y.rs", "use super::z;"), third];
    assert_eq!(found(&through).len(), 1);
    // By names that a module gives on, under their own or another, and in a module of modules.
    let module =
        ("a/mod.rs", "mod x;\nmod y;\npub use x::{X, V as W};\npub(crate) use y::*;\npub use y::deep::Y;");
    let deep = ("a/y/deep.rs", "use crate::a::W;");
    assert_eq!(found(&[module, ("a/x.rs", "use super::Y;"), ("a/y/mod.rs", "mod deep;"), deep]).len(), 1);
    // With the module itself, where it has something of its own.
    assert_eq!(found(&[("a/mod.rs", "mod x;\nuse x::X;"), ("a/x.rs", "use super::CONSTANT;")]).len(), 1);
    // Two circles are told apart.
    let other = [("b/x.rs", "use super::y::Y;"), ("b/y.rs", "use super::x::X;")];
    assert_eq!(found(&[straight, other].concat()).len(), 2);

    // No circle: downwards, names that are given on, who may use a thing, comments, tests, other crates and floors.
    assert_eq!(found(&[module, ("a/x.rs", "use super::Y;"), ("a/y/deep.rs", "use crate::b::X;")]), [""; 0]);
    let below =
        "pub(in crate::a) fn f() {} // crate::a::x\n#[cfg(test)]\nmod tests {\n    use crate::a::x::X;\n}";
    assert_eq!(found(&[("a/x.rs", "use super::y::Y;\nuse x::X;"), ("a/y.rs", below)]), [""; 0]);
    assert_eq!(found(&[("a/x.rs", "use crate::b::x::X;"), ("b/x.rs", "use crate::a::x::X;")]), [""; 0]);
}
