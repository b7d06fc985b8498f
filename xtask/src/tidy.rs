//! House rules that no compiler knows. Each finding is `file:line: what`; all are reported at once.
//!
//! - a source file opens with `//!` and has at most [`FILE_LINES_LIMIT`] lines;
//! - in `host/src` a stage imports only earlier stages and side rooms, `state` imports no stage, nothing imports `api` or
//!   `cli` (but `cli` may use `api`);
//! - `unsafe` stands only in files that are known for it;
//! - open work carries an issue number; no path of a person's machine stands anywhere.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::process::root;

const FILE_LINES_LIMIT: usize = 600;
/// The data's way through `host/src`; a stage may import those before it.
const STAGES: [&str; 8] = ["source", "decode", "change", "rule", "aggregate", "label", "sink", "pipeline"];
/// Modules that nothing imports.
const OUTERMOST: [&str; 2] = ["api", "cli"];
/// Files that may say `unsafe`, each with safety comments beside it.
const UNSAFE_FILES: [&str; 9] = [
    "guest-sdk/macros/src/rule.rs",
    "guest-sdk/src/batch.rs",
    "guest-sdk/src/guest.rs",
    "guest-sdk/src/out.rs",
    "host/src/decode/wide.rs",
    "host/src/main.rs",
    "host/src/priority.rs",
    "host/src/rule/cache.rs",
    "host/src/source/kafka/native.rs",
];
/// Inputs of the compile-error tests: their line numbers stand in the expected output.
const COMPILE_ERRORS: &str = "guest-sdk/tests/ui/";
/// Written in two parts so that this file does not find itself.
const MACHINE_PATHS: [&str; 5] = [
    concat!("/ho", "me/"),
    concat!("/ro", "ot/"),
    concat!("/Us", "ers/"),
    concat!("/wo", "rk/"),
    concat!("/tm", "p/"),
];
const OPEN_WORK: [&str; 2] = [concat!("TO", "DO"), concat!("FIX", "ME")];

/// Checks the whole tree.
///
/// # Errors
/// All findings.
pub(crate) fn run() -> Result<()> {
    let root = root();
    let mut files = Vec::new();
    collect(&root, &mut files).context("list the tree's files")?;
    files.sort();
    let (mut findings, mut sizes) = (Vec::new(), Vec::new());
    for path in &files {
        let name = path.strip_prefix(&root).unwrap_or(path).to_string_lossy().replace('\\', "/");
        let Ok(text) = std::fs::read_to_string(path) else { continue };
        check_text(&name, &text, &mut findings);
        if path.extension().is_some_and(|extension| extension == "rs") {
            check_source(&name, &text, &mut findings);
            sizes.push(text.lines().count());
        }
    }
    sizes.sort_unstable();
    let at = |percent: usize| sizes.get(sizes.len() * percent / 100).copied().unwrap_or(0);
    println!(
        "tidy: {} source files, {} lines; median {}, p90 {}, longest {}",
        sizes.len(),
        sizes.iter().sum::<usize>(),
        at(50),
        at(90),
        sizes.last().copied().unwrap_or(0)
    );
    if sizes.is_empty() {
        bail!("tidy found no source file under {}", root.display());
    }
    if !findings.is_empty() {
        bail!("{} findings:\n{}", findings.len(), findings.join("\n"));
    }
    Ok(())
}

/// Files that a person writes: no build output, no hidden folder but `.ci` and `.cargo`.
fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    const WRITTEN: [&str; 6] = ["rs", "toml", "md", "sh", "svg", "json"];
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            let hidden = name.starts_with('.') && ![".ci", ".cargo"].contains(&name.as_str());
            if !hidden && name != "target" && name != "data" {
                collect(&path, files)?;
            }
        } else if dir.file_name().is_some_and(|name| name == ".ci")
            || path.extension().is_some_and(|e| WRITTEN.iter().any(|written| e == *written))
        {
            files.push(path);
        }
    }
    Ok(())
}

/// What holds for every file.
fn check_text(name: &str, text: &str, findings: &mut Vec<String>) {
    for (number, line) in (1..).zip(text.lines()) {
        if let Some(path) = MACHINE_PATHS.iter().find(|path| starts_a_path(line, path)) {
            findings.push(format!("{name}:{number}: a path of one machine ({path}…): use a relative one"));
        }
        for word in OPEN_WORK {
            if line.contains(word) && !line.contains("#issue") && !has_issue_number(line) {
                findings.push(format!("{name}:{number}: {word} without the number of its issue (#12)"));
            }
        }
    }
}

/// Whether `path` stands in the line as the start of an absolute path, not inside a longer relative one.
fn starts_a_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | '}' | ')'))
    })
}

fn has_issue_number(line: &str) -> bool {
    line.split('#').skip(1).any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// What holds for Rust files.
fn check_source(name: &str, text: &str, findings: &mut Vec<String>) {
    if !text.starts_with("//!") && !name.starts_with(COMPILE_ERRORS) {
        findings.push(format!(
            "{name}:1: open the file with `//!`: what it holds, from where to where, its invariant"
        ));
    }
    let lines = text.lines().count();
    if lines > FILE_LINES_LIMIT {
        findings.push(format!("{name}: {lines} lines, limit {FILE_LINES_LIMIT}: split it by concept"));
    }
    let code: Vec<&str> = text.lines().map(|line| line.split("//").next().unwrap_or(line)).collect();
    for (number, line) in (1..).zip(&code) {
        if says_unsafe(line) && !UNSAFE_FILES.contains(&name) {
            findings.push(format!(
                "{name}:{number}: `unsafe` outside the files that are known for it (xtask tidy)"
            ));
        }
    }
    let Some(module) = host_module(name) else { return };
    // Test code may use what it likes; by habit it stands at the end of a file.
    let users_code: Vec<&str> =
        code.into_iter().take_while(|line| !line.trim_start().starts_with("#[cfg(test)]")).collect();
    let joined = users_code.join("\n");
    for (at, imported) in imports(&joined) {
        if let Some(reason) = forbidden(module, imported) {
            let number = 1 + joined.get(..at).map_or(0, |before| before.matches('\n').count());
            findings.push(format!("{name}:{number}: `{module}` imports `{imported}`: {reason}"));
        }
    }
}

fn says_unsafe(code: &str) -> bool {
    [
        concat!("uns", "afe {"),
        concat!("uns", "afe fn"),
        concat!("uns", "afe impl"),
        concat!("uns", "afe extern"),
    ]
    .iter()
    .any(|form| code.contains(form))
        || code.contains(concat!("#[uns", "afe("))
}

/// The module of `host/src` that a file belongs to.
fn host_module(name: &str) -> Option<&str> {
    let inside = name.strip_prefix("host/src/")?;
    let module = inside.split('/').next()?.trim_end_matches(".rs");
    (!matches!(module, "lib" | "main") && !inside.ends_with("tests.rs")).then_some(module)
}

/// The modules that code reaches through `crate::`, also in `crate::{a, b::c}`, each with the place of its `crate::`.
fn imports(code: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (at, path) in code.match_indices("crate::") {
        let before = code.get(..at).and_then(|text| text.chars().next_back());
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let rest = code.get(at + path.len()..).unwrap_or_default();
        let members = match rest.strip_prefix('{') {
            None => identifier(rest).into_iter().collect(),
            Some(group) => group_members(group),
        };
        found.extend(members.into_iter().map(|member| (at, member)));
    }
    found
}

/// First names of the members of a `use` group that is open at the start of `group`.
fn group_members(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        let ends = match c {
            '{' => {
                depth += 1;
                false
            }
            '}' if depth > 0 => {
                depth -= 1;
                false
            }
            ',' => depth == 0,
            '}' => true,
            _ => false,
        };
        if ends {
            found.extend(group.get(start..at).and_then(|member| identifier(member.trim())));
            start = at + 1;
        }
        if c == '}' && ends {
            return found;
        }
    }
    found.extend(group.get(start..).and_then(|member| identifier(member.trim())));
    found
}

fn identifier(text: &str) -> Option<&str> {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    text.get(..end).filter(|name| !name.is_empty() && name.starts_with(|c: char| c.is_lowercase()))
}

/// Why `module` must not import `imported`, if it must not.
fn forbidden(module: &str, imported: &str) -> Option<&'static str> {
    let place = |name: &str| STAGES.iter().position(|stage| *stage == name);
    if module == imported || module == "cli" && imported == "api" {
        return None;
    }
    if OUTERMOST.contains(&imported) {
        return Some("nothing points at the outermost modules");
    }
    match (place(module), place(imported)) {
        (Some(own), Some(other)) if other > own => Some("a stage imports only earlier stages"),
        (None, Some(_)) if ["state", "clock", "metrics"].contains(&module) => Some("it must know no stage"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{check_source, check_text, forbidden, imports};

    fn found(name: &str, text: &str) -> usize {
        let mut findings = Vec::new();
        check_text(name, text, &mut findings);
        check_source(name, text, &mut findings);
        findings.len()
    }

    #[test]
    fn imports_are_read_from_paths_and_groups() {
        let check = |code: &str, expect: &[&str]| {
            let found: Vec<&str> = imports(code).into_iter().map(|(_, name)| name).collect();
            assert_eq!(found, expect, "{code}");
        };
        check("use crate::decode::Plan;", &["decode"]);
        check("use crate::{state::Store, decode::{image::Fit, Plan}, sink};", &["state", "decode", "sink"]);
        check("let x = crate::clock::now();", &["clock"]);
        check(
            "use crate::{\n    state::Store,\n    cli::{\n        Arguments,\n    },\n};",
            &["state", "cli"],
        );
        check("use crate::Error;", &[]);
        check("use retag_crate::api;", &[]);
    }

    #[test]
    fn the_way_goes_in_one_direction() {
        for (module, imported) in [
            ("decode", "pipeline"),
            ("state", "decode"),
            ("rule", "aggregate"),
            ("pipeline", "cli"),
            ("api", "cli"),
        ] {
            assert!(forbidden(module, imported).is_some(), "{module} → {imported}");
        }
        for (module, imported) in [
            ("rule", "decode"),
            ("pipeline", "state"),
            ("aggregate", "state"),
            ("cli", "api"),
            ("sink", "clock"),
        ] {
            assert!(forbidden(module, imported).is_none(), "{module} → {imported}");
        }
    }

    #[test]
    fn findings_are_found_and_tests_may_import_anything() {
        assert_eq!(found("host/src/decode/mod.rs", "//! Decode.\nuse crate::change::Leg;\n"), 1);
        assert_eq!(
            found(
                "host/src/decode/mod.rs",
                "//! D.\n// crate::change\n#[cfg(test)]\nuse crate::change::Leg;\n"
            ),
            0
        );
        let group = "//! D.\nuse std::fmt;\nuse crate::{\n    clock::Clock,\n    sink::Sink,\n};\n";
        assert_eq!(found("host/src/decode/mod.rs", group), 1);
        assert_eq!(found("host/src/decode/mod.rs", "use std::fmt;\n"), 1);
        assert_eq!(found("a.rs", &format!("//! A.\n{}", "\n".repeat(600))), 1);
        assert_eq!(found("a.rs", concat!("//! A.\nuns", "afe { x() }\n")), 1);
        assert_eq!(found("a.rs", concat!("//! A.\n// TO", "DO later\n")), 1);
        assert_eq!(found("a.rs", concat!("//! A.\n// TO", "DO(#7) later\n")), 0);
        assert_eq!(found("a.rs", concat!("//! In /ho", "me/me/x\n")), 1);
        assert_eq!(found("a.rs", concat!("//! In the.net/ho", "me/x\n")), 0);
    }
}
