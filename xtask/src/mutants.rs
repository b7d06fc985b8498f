//! One known fault at a time, in a copy of the tree: each must turn its test red.
//!
//! A text to replace that is not there exactly once, a fault that does not compile, a test that does not exist or is
//! red without any fault: all are errors, not passes. Run by hand; each fault costs a build.

mod table;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::{cargo, output, root, target_dir, watch};
use crate::ready;
use crate::test::Tally;
use table::{MUTANTS, Mutant};

/// Applies the named mutants, or all.
///
/// # Errors
/// A mutant survived, or could not be tried.
pub(crate) fn run(names: &[String]) -> Result<()> {
    if let Some(unknown) = names.iter().find(|name| !MUTANTS.iter().any(|m| m.name == **name)) {
        let known: Vec<&str> = MUTANTS.iter().map(|mutant| mutant.name).collect();
        bail!("no mutant `{unknown}`; there are: {}", known.join(", "));
    }
    let chosen: Vec<&Mutant> =
        MUTANTS.iter().filter(|m| names.is_empty() || names.iter().any(|name| m.name == name)).collect();
    // All texts first: a stale table must not cost an hour before it is noticed.
    for mutant in &chosen {
        let path = root().join(mutant.file);
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("mutant `{}`: read {}", mutant.name, mutant.file))?;
        edited(mutant, &text)?;
    }
    ready::wasm_target()?;
    ready::rules()?;
    let tree = target_dir().join("mutants").join("tree");
    copy_tree(&tree)?;
    // Once for each test, while the tree is whole: a fault is put back before the next one is tried.
    let mut green = BTreeSet::new();
    for mutant in &chosen {
        if green.insert(mutant.test) {
            check_green(mutant, &tree)?;
        }
    }
    let mut survivors = Vec::new();
    for mutant in &chosen {
        println!("== {}", mutant.name);
        if !attempt(mutant, &tree)? {
            survivors.push(mutant.name);
        }
    }
    println!("mutants: {} of {} killed", chosen.len() - survivors.len(), chosen.len());
    if !survivors.is_empty() {
        bail!("survived: {}: no test notices them", survivors.join(", "));
    }
    Ok(())
}

/// The file's text with the fault in it.
fn edited(mutant: &Mutant, text: &str) -> Result<String> {
    let Mutant { name, file, old, new, .. } = mutant;
    if old.is_empty() || old == new {
        bail!("mutant `{name}`: its edit is empty: fill in xtask/src/mutants/table.rs");
    }
    match text.matches(old).count() {
        1 => Ok(text.replacen(old, new, 1)),
        0 => bail!("mutant `{name}`: its text is not in {file} any more: bring the table up to date\n{old}"),
        many => bail!("mutant `{name}`: its text stands {many} times in {file}: give more of it\n{old}"),
    }
}

/// Its test must run and pass without the fault.
fn check_green(mutant: &Mutant, tree: &Path) -> Result<()> {
    let (green, ran, last) = test(mutant, tree)?;
    if !green || ran == 0 {
        bail!("mutant `{}`: without the fault its test is not green ({ran} tests ran)\n{last}", mutant.name);
    }
    Ok(())
}

/// Whether the mutant was killed. The file is put back whatever happens.
fn attempt(mutant: &Mutant, tree: &Path) -> Result<bool> {
    let path = tree.join(mutant.file);
    let original = std::fs::read_to_string(&path).with_context(|| mutant.file)?;
    std::fs::write(&path, edited(mutant, &original)?)?;
    let outcome = test(mutant, tree);
    std::fs::write(&path, original)?;
    let (green, ran, last) = outcome?;
    if !green && ran == 0 {
        bail!("mutant `{}`: with the fault nothing ran; does it compile?\n{last}", mutant.name);
    }
    println!("{}: {}", mutant.name, if green { "SURVIVED" } else { "killed" });
    Ok(!green)
}

/// Runs the mutant's test in the copy: green?, tests that ran, last lines of output.
fn test(mutant: &Mutant, tree: &Path) -> Result<(bool, u64, String)> {
    let mut tally = Tally::default();
    let mut last: Vec<String> = Vec::new();
    let mut command = cargo(["test"]);
    command.args(mutant.test).current_dir(tree);
    command.env("CARGO_TARGET_DIR", target_dir().join("mutants").join("build"));
    let green = watch(&mut command, false, |line| {
        tally.line(line);
        last.push(line.to_owned());
        if last.len() > 20 {
            last.remove(0);
        }
    })?;
    Ok((green, tally.passed() + tally.failed, last.join("\n")))
}

/// Makes the tree equal to what git knows or would add and the built rules. Files that are equal already are not
/// touched, so that builds know by their times what changed, a fault put back included.
fn copy_tree(tree: &Path) -> Result<()> {
    let root = root();
    let mut list = Command::new("git");
    list.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(&root);
    let mut files: BTreeSet<PathBuf> =
        output(&mut list)?.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from).collect();
    for dir in ready::rule_dirs()? {
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        files.insert(PathBuf::from(format!("rules/{name}/{name}.wasm")));
    }
    files.retain(|file| root.join(file).is_file());
    std::fs::create_dir_all(tree)?;
    remove_others(tree, tree, &files)?;
    for file in &files {
        let (from, to) = (root.join(file), tree.join(file));
        let wanted = std::fs::read(&from).with_context(|| format!("read {}", file.display()))?;
        if std::fs::read(&to).is_ok_and(|found| found == wanted) {
            continue;
        }
        std::fs::create_dir_all(to.parent().unwrap_or(tree))?;
        std::fs::write(&to, wanted).with_context(|| format!("write {}", to.display()))?;
    }
    Ok(())
}

/// Removes what an earlier tree had and this one has not.
fn remove_others(tree: &Path, dir: &Path, files: &BTreeSet<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            remove_others(tree, &path, files)?;
        } else if path.strip_prefix(tree).is_ok_and(|file| !files.contains(file)) {
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::edited;
    use super::table::{MUTANTS, Mutant};

    const SIGN: Mutant =
        Mutant { name: "sign", file: "a.rs", old: "sign: -1", new: "sign: 1", test: &["-p", "x"] };

    #[test]
    fn a_text_is_replaced_where_it_stands_once() {
        assert_eq!(edited(&SIGN, "Leg { sign: -1 }").unwrap(), "Leg { sign: 1 }");
    }

    #[test]
    fn a_stale_doubtful_or_empty_edit_is_an_error() {
        assert!(edited(&SIGN, "Leg { sign: MINUS }").is_err());
        assert!(edited(&SIGN, "sign: -1, sign: -1").is_err());
        assert!(edited(&Mutant { old: "", ..SIGN }, "sign: -1").is_err());
        assert!(edited(&Mutant { new: SIGN.old, ..SIGN }, "sign: -1").is_err());
    }

    #[test]
    fn every_text_stands_once_in_its_file() {
        for mutant in MUTANTS {
            let text = std::fs::read_to_string(crate::process::root().join(mutant.file)).unwrap();
            edited(mutant, &text).unwrap();
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<&str> = MUTANTS.iter().map(|mutant| mutant.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), MUTANTS.len());
    }
}
