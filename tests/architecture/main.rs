//! The house rules of DESIGN.md, read from the source: floors use only floors below them, and files of a floor no circle
//! of each other; files stay short, nothing knows the machine it was written on, unsafe code is where it was agreed.

mod circles;

use std::fs;
use std::path::{Path, PathBuf};

use defrost::train::{OptimizerKind, Strategy};

/// The floors, lowest first. `error.rs`, `options.rs`, `panics.rs`, `rng.rs` and `text.rs` lie below all of them, `lib.rs` and `main.rs` above.
const FLOORS: &[&str] =
    &["gpu", "tape", "ops", "plan", "nn", "models", "data", "task", "train", "explain", "report", "cli"];
const BELOW: &[&str] = &["error.rs", "options.rs", "panics.rs", "rng.rs", "text.rs"];
const ABOVE: &[&str] = &["lib.rs", "main.rs"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below `folder`, sorted.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else { return found };
    for path in entries.filter_map(|e| Some(e.ok()?.path())) {
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

fn sources() -> Vec<(String, String)> {
    let src = root().join("src");
    let rust = files(&src).into_iter().filter(|f| f.extension().is_some_and(|e| e == "rs"));
    let text = |f: PathBuf| {
        let name = f.strip_prefix(&src).expect("below src").to_string_lossy().replace('\\', "/");
        (name, fs::read_to_string(&f).expect("text"))
    };
    let all: Vec<_> = rust.map(text).collect();
    assert!(all.len() > 50, "only {} sources were found", all.len());
    all
}

/// The code without comments and without the test module at its end; lines keep their numbers.
fn code(text: &str) -> String {
    let mut lines = Vec::new();
    let mut all = text.lines().peekable();
    while let Some(line) = all.next() {
        let next_is_tests = all.peek().is_some_and(|next| next.trim_start().starts_with("mod "));
        if line.trim() == "#[cfg(test)]" && next_is_tests {
            break;
        }
        lines.push(line.find("//").map_or(line, |at| &line[..at]));
    }
    lines.join("\n")
}

/// First names of a path or a braced list: `{gpu::Caps, tape::{Io, Op}}` gives `gpu` and `tape`.
fn first_names(after: &str) -> Vec<&str> {
    fn name(text: &str) -> &str {
        let text = text.trim_start();
        let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
        &text[..end]
    }
    let Some(inner) = after.trim_start().strip_prefix('{') else { return vec![name(after)] };
    let (mut depth, mut names) = (0, vec![name(inner)]);
    for (at, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(name(&inner[at + 1..])),
            _ => {}
        }
    }
    names
}

/// Uses of floors above the file's own, as `file:line: what`. `file` is a path below `src`.
fn upward(file: &str, text: &str) -> Vec<String> {
    if ABOVE.contains(&file) {
        return Vec::new();
    }
    let floor = file.split('/').next().unwrap_or_default();
    let own = FLOORS.iter().position(|f| *f == floor);
    if own.is_none() && !BELOW.contains(&file) {
        return vec![format!("src/{file}: belongs to no floor; the floors are {}", FLOORS.join(", "))];
    }
    let code = code(text);
    // Either `crate::`, or as many `super::` as there are modules above.
    let modules = file.trim_end_matches(".rs").trim_end_matches("/mod").split('/').count();
    let mut wrong = Vec::new();
    for way in ["crate::".to_string(), "super::".repeat(modules)] {
        for (at, _) in code.match_indices(&way) {
            for name in first_names(&code[at + way.len()..]) {
                let Some(used) = FLOORS.iter().position(|f| *f == name) else { continue };
                if own.is_none_or(|own| used > own) {
                    let line = code[..at].matches('\n').count() + 1;
                    let from = own.map_or("a file below all floors", |own| FLOORS[own]);
                    wrong.push(format!("src/{file}:{line}: {from} uses {name}, which lies above"));
                }
            }
        }
    }
    wrong
}

#[test]
fn each_floor_uses_only_floors_below() {
    let wrong: Vec<String> = sources().iter().flat_map(|(file, text)| upward(file, text)).collect();
    assert!(wrong.is_empty(), "upward imports:\n  {}", wrong.join("\n  "));
}

#[test]
fn upward_imports_are_found() {
    let found = |file: &str, text: &str| upward(file, text).len();
    assert_eq!(found("gpu/mod.rs", "use crate::tape::Op;"), 1);
    assert_eq!(found("ops/conv.rs", "use crate::{Error, gpu::Caps,\n    plan::{Plan, Step}, nn};"), 2);
    assert_eq!(found("ops/pool/max.rs", "use super::super::super::plan::Plan;"), 1);
    assert_eq!(found("models/vgg.rs", "    let x = crate::train::run();"), 1);
    assert_eq!(found("rng.rs", "use crate::gpu::Gpu;"), 1);
    assert_eq!(found("other/mod.rs", ""), 1);
    let line = upward("tape/op.rs", "//! Tape.\n\nuse crate::ops::Conv;").remove(0);
    assert!(line.starts_with("src/tape/op.rs:3:"), "{line}");
    // Downward, beside, in comments and in tests it is no matter.
    assert_eq!(found("ops/conv.rs", "use crate::{Error, tape::Op, ops::Pad};\nuse super::plan;"), 0);
    assert_eq!(found("gpu/mod.rs", "/// See [`crate::train`].\nfn f() {} // crate::cli"), 0);
    assert_eq!(
        found("ops/conv.rs", "fn f() {}\n#[cfg(test)]\nmod tests {\n    use crate::plan::probe;\n}"),
        0
    );
    assert_eq!(found("lib.rs", "pub use crate::train::run;"), 0);
}

/// Lines that look into an error's text, as `file:line: what`.
fn searched_errors(file: &str, text: &str) -> Vec<String> {
    let searches = [".contains(", ".starts_with(", ".ends_with(", ".find("];
    let looks = |line: &str| {
        let searched = searches.iter().any(|search| line.contains(search));
        // `PoisonError::into_inner` and the like are other errors' functions.
        let own = line.match_indices("Error::").any(|(at, _)| !line[..at].ends_with(char::is_alphanumeric));
        let of_error = line.contains("Err(") || own;
        searched && of_error || searches.iter().any(|search| line.contains(&format!("e.to_string(){search}")))
    };
    let code = code(text);
    let lines = code.lines().zip(1..).filter(|(line, _)| looks(line));
    lines.map(|(line, number)| format!("src/{file}:{number}: {}", line.trim())).collect()
}

#[test]
fn no_text_of_an_error_is_searched() {
    let wrong: Vec<String> = sources().iter().flat_map(|(file, text)| searched_errors(file, text)).collect();
    assert!(wrong.is_empty(), "match a variant instead:\n  {}", wrong.join("\n  "));
    let found = |text: &str| searched_errors("x.rs", text).len();
    assert_eq!(found("Err(Error::Gpu(e)) if e.contains(\"memory\") => retry(),"), 1);
    assert_eq!(found("let known = outcome.is_err_and(|e| e.to_string().contains(\"memory\"));"), 1);
    assert_eq!(found("if matches!(e, Error::Gpu(text) if text.contains(\"memory\"))"), 1);
    assert_eq!(found("Err(Error::OutOfMemory(_)) => retry(), // not e.contains"), 0);
    assert_eq!(found("let own = own.unwrap_or_else(PoisonError::into_inner).iter().find(is);"), 0);
}

#[test]
fn only_the_command_reads_the_environment() {
    let reads = ["env::var", "env::vars", "from_env", "with_env", "option_env!"];
    let floors = sources().into_iter().filter(|(file, _)| !file.starts_with("cli/"));
    let mut wrong = Vec::new();
    for (file, text) in floors {
        let code = code(&text);
        let lines = code.lines().zip(1..).filter(|(line, _)| reads.iter().any(|read| line.contains(read)));
        wrong.extend(lines.map(|(line, number)| format!("src/{file}:{number}: {}", line.trim())));
    }
    assert!(wrong.is_empty(), "hand options down instead:\n  {}", wrong.join("\n  "));
    let reader = root().join("src/cli/environment.rs");
    assert!(
        fs::read_to_string(reader).is_ok_and(|text| code(&text).contains(reads[0])),
        "nothing is looked for"
    );
}

/// A task is known by its folder and its line in the registry alone: no name of one stands elsewhere.
#[test]
fn tasks_are_known_by_their_registry() {
    let names: Vec<&str> = defrost::task::TASKS.iter().map(|task| task.name()).collect();
    assert!(names.len() >= 3, "{names:?}");
    let types = ["SingleLabel", "MultiLabel", "RegressionTask"];
    let mut wrong = Vec::new();
    // Forms of targets are read under the names that they had before tasks had theirs.
    let own = |file: &str| file.starts_with("task/") || file == "data/target.rs";
    for (file, text) in sources().iter().filter(|(file, _)| !own(file)) {
        let code = code(text);
        for name in names.iter().map(|name| format!("\"{name}\"")).chain(types.map(String::from)) {
            wrong.extend(code.contains(&name).then(|| format!("src/{file} names {name}")));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Every op has cases: what the registry does not name is compared with no reference.
#[test]
fn every_op_is_registered_with_cases() {
    let families = defrost::ops::REGISTRY;
    for family in families {
        assert!(!(family.cases)().is_empty(), "{} has no cases", family.name);
    }
    let of_ops = sources()
        .into_iter()
        .filter(|(file, text)| file.starts_with("ops/") && text.contains("\nimpl Op for"));
    let unknown: Vec<String> = of_ops
        .map(|(file, _)| file)
        .filter(|file| {
            let name = file.trim_start_matches("ops/").split('/').next().unwrap_or_default();
            !families.iter().any(|family| family.name == name.trim_end_matches(".rs"))
        })
        .collect();
    assert!(unknown.is_empty(), "no line in REGISTRY of src/ops/mod.rs: {unknown:?}");
}

#[test]
fn files_are_short() {
    const MOST: usize = 600;
    let long = |(file, text): &(String, String)| {
        let lines = text.lines().count();
        (lines > MOST).then(|| format!("src/{file}: {lines} lines"))
    };
    let long: Vec<String> = sources().iter().filter_map(long).collect();
    assert!(long.is_empty(), "more than {MOST} lines, divide them:\n  {}", long.join("\n  "));
}

#[test]
fn nothing_knows_the_machine_it_was_written_on() {
    // Written so that this file does not find itself.
    let homes = ["wo-rk/", "ho-me/", "ro-ot/", "Us-ers/"].map(|part| format!("/{}", part.replace('-', "")));
    let folders = ["src", "shaders", "tests", "examples", "benches", "tools", ".ci"];
    let kinds = ["rs", "wgsl", "py", "txt", "json", "toml", "md", "sh", ""];
    let mut wrong = Vec::new();
    for file in folders.iter().flat_map(|f| files(&root().join(f))) {
        let kind = file.extension().unwrap_or_default().to_string_lossy().to_string();
        if !kinds.contains(&kind.as_str()) {
            continue;
        }
        let Ok(text) = fs::read_to_string(&file) else { continue };
        for (number, line) in text.lines().enumerate() {
            if homes.iter().any(|home| line.contains(home)) {
                let file = file.strip_prefix(root()).expect("below the root").display();
                wrong.push(format!("{file}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "paths of one machine:\n  {}", wrong.join("\n  "));
}

#[test]
fn unsafe_code_is_where_it_was_agreed() {
    // Trusted shader modules are made, files are mapped, vector instructions that were found are used.
    let agreed = ["gpu/kernel.rs", "gpu/pipelines.rs", "nn/weights.rs", "ops/cpu/mod.rs"];
    for (file, text) in sources() {
        let uses = code(&text).contains("allow(unsafe_code)");
        assert!(!uses || agreed.contains(&file.as_str()), "src/{file} allows unsafe code");
    }
}

/// String literals of Rust code with the lines that they begin on; characters and raw strings are understood.
fn literals(code: &str) -> Vec<(usize, String)> {
    let (mut found, mut line) = (Vec::new(), 1);
    let mut rest = code;
    let count = |text: &str| text.matches('\n').count();
    while let Some(c) = rest.chars().next() {
        let raw = rest.strip_prefix('r').map(|r| r.trim_start_matches('#')).filter(|r| r.starts_with('"'));
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let Some(escaped) = rest.strip_prefix("'\\") {
            2 + escaped.char_indices().skip(1).find(|(_, c)| *c == '\'').map_or(0, |(at, _)| at + 1)
        } else if rest.starts_with("'\"'") {
            3
        } else if let Some(inner) = raw {
            let end = format!("\"{}", "#".repeat(rest.len() - inner.len() - 1));
            let text = inner[1..].split(&end).next().unwrap_or("");
            found.push((line, text.to_string()));
            rest.len() - inner.len() + 1 + text.len() + end.len()
        } else if c == '"' {
            let mut escaped = false;
            let end = rest[1..].find(|c| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            });
            let end = end.map_or(rest.len(), |end| end + 1);
            found.push((line, rest[1..end].to_string()));
            end + 1
        } else {
            // A name that ends with r begins no raw string.
            let name = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
            name.max(c.len_utf8())
        };
        let (done, after) = rest.split_at(length.min(rest.len()));
        (line, rest) = (line + count(done), after);
    }
    found
}

/// Texts that name options of the command, as `file:line: text`.
fn options_named(file: &str, text: &str) -> Vec<String> {
    let names = |text: &str| {
        let mut parts = text.split("--");
        let mut before = parts.next().unwrap_or("").chars().next_back();
        parts.any(|part| {
            let begins = part.starts_with(|c: char| c.is_ascii_lowercase());
            let apart = before.is_none_or(|c| !c.is_alphanumeric());
            before = part.chars().next_back().or(Some('-'));
            begins && apart
        })
    };
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let named = literals(code).into_iter().filter(|(_, literal)| names(literal));
    let mut named: Vec<_> = named.map(|(line, text)| format!("src/{file}:{line}: {text}")).collect();
    let documentation = |line: &str| line.trim_start().starts_with("//") && names(line);
    let lines = text.lines().enumerate().filter(|(_, line)| documentation(line));
    named.extend(lines.map(|(number, line)| format!("src/{file}:{}: {}", number + 1, line.trim())));
    named
}

#[test]
fn only_the_command_knows_its_options() {
    let below = |(file, _): &(String, String)| !file.starts_with("cli/") && file != "main.rs";
    let named: Vec<String> = sources()
        .iter()
        .filter(|source| below(source))
        .flat_map(|(f, text)| options_named(f, text))
        .collect();
    assert!(named.is_empty(), "name the setting, as in `batch`, not the option:\n  {}", named.join("\n  "));
}

#[test]
fn options_in_texts_are_found() {
    let found = |text: &str| options_named("x.rs", text).len();
    assert_eq!(found("fn f() { g(\"choose a smaller --batch\") }"), 1);
    assert_eq!(found("fn f() { g(\"a \\\" \\\n  --batch\"); h('\"', '\\'', \"--lr {x}\") }"), 2);
    assert_eq!(found("fn f() { g(r#\"a \"b\" --lr\"#) }"), 1);
    assert_eq!(found("/// See `--lr`.\nfn f() {}"), 1);
    assert_eq!(found("fn f() { g(\"models--timm--x, a -- b, `lr`\", x - --y) }"), 0);
    assert_eq!(found("fn f() {}\n#[cfg(test)]\nmod tests { const X: &str = \"--lr\"; }"), 0);
}

/// Names of single strategies or optimizers as `file:line: text`, outside of the files and the registry that may have them.
fn single_names(file: &str, text: &str, of: &str, names: &[String], home: &[&str]) -> Vec<String> {
    if home.iter().any(|home| file.starts_with(home)) {
        return Vec::new();
    }
    let named = |line: &str| names.iter().any(|name| line.contains(&format!("{of}::{name}")));
    let code = code(text);
    let lines = code.lines().enumerate().filter(|(_, line)| named(line));
    lines.map(|(number, line)| format!("src/{file}:{}: {}", number + 1, line.trim())).collect()
}

#[test]
fn nothing_asks_which_strategy_or_optimizer_it_is() {
    let strategies: Vec<String> = Strategy::ALL.iter().map(|one| format!("{one:?}")).collect();
    let optimizers: Vec<String> = OptimizerKind::ALL.iter().map(|one| format!("{one:?}")).collect();
    let updates = ["Sgd", "AdamW"].map(String::from);
    let kinds: [(&str, &[String], &[&str]); 3] = [
        ("Strategy", &strategies, &["train/strategy/", "train/settings/strategies.rs"]),
        ("OptimizerKind", &optimizers, &["train/optimizer/", "train/settings/optimizers.rs"]),
        ("Optimizer", &updates, &["ops/optimizer/"]),
    ];
    let mut wrong = Vec::new();
    for (of, names, home) in kinds {
        let asked = |text: &str| single_names("train/fit/phase.rs", text, of, names, home).len();
        assert_eq!(asked(&format!("if config.kind == {of}::{} {{}}", names[0])), 1);
        assert_eq!(asked(&format!("let usual = {of}::usual(true);")), 0);
        wrong.extend(sources().iter().flat_map(|(file, text)| single_names(file, text, of, names, home)));
    }
    assert!(wrong.is_empty(), "ask the thing what it does:\n  {}", wrong.join("\n  "));
}
