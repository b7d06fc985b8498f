//! The whole way on one screen: a stream of changes, two rules, labels; then the same figures found by another road.
//!
//! Everything lies under `target/demo`, which is made anew each time.

mod live;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::compare::{equal_tables, grouped, json_field};
use crate::process::{cargo, output, release_binary, root, run as run_command, target_dir};
use crate::ready;

const EVENTS: u64 = 300_000;
const USERS: u64 = 20_000;
/// Lines shown of each kind of transition.
const SHOWN: usize = 4;

/// Runs the demo on a made stream, or on the files given.
///
/// # Errors
/// A step failed, or the host's result differs from the recomputation.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    if arguments == ["--kafka"] {
        return live::run();
    }
    if let Some(option) = arguments.iter().find(|argument| argument.starts_with('-')) {
        bail!(
            "unknown option {option}\nusage: cargo xtask demo [--kafka | FILE…]   (Maxwell messages, one a line)"
        );
    }
    #[allow(clippy::disallowed_methods)] // a chore measures itself
    let start = Instant::now();
    ready::wasm_target()?;
    run_command(&mut cargo(["build", "--release", "-p", "retag-host", "-p", "retag-tests"]))?;
    ready::rules_by(&release_binary("retag"))?;
    let mut demo = Demo { dir: target_dir().join("demo"), rules: vec!["payer"] };
    demo.prepare()?;
    let files = if arguments.is_empty() { demo.make_stream()? } else { own_files(arguments)? };
    if arguments.is_empty() || mentions(&files, "\"red_packets\"")? {
        demo.rules.push("red_packet");
    }
    demo.write_config(&files)?;
    println!("\n== the host reads the changes\n");
    run_command(demo.retag(["run"]).args(["--until-end"]))?;
    demo.show_transitions()?;
    println!("\n== the same figures, recomputed from the final rows\n");
    demo.check(&files)?;
    demo.show_ways_on();
    println!("\ndemo: done in {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}

fn own_files(arguments: &[String]) -> Result<Vec<PathBuf>> {
    let absolute = |name: &String| {
        std::path::absolute(name)
            .and_then(|path| path.metadata().map(|_| path))
            .with_context(|| format!("{name}: give files of Maxwell messages, one a line"))
    };
    arguments.iter().map(absolute).collect()
}

/// Whether a text stands anywhere in the files: a rule that would see none of its tables is left out.
fn mentions(files: &[PathBuf], text: &str) -> Result<bool> {
    for path in files {
        let file = std::fs::File::open(path).with_context(|| format!("open {}", path.display()))?;
        for line in BufReader::with_capacity(1 << 20, file).split(b'\n') {
            if String::from_utf8_lossy(&line?).contains(text) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// The demo's folder, and the rules that run in it.
struct Demo {
    dir: PathBuf,
    rules: Vec<&'static str>,
}

impl Demo {
    fn prepare(&self) -> Result<()> {
        if self.dir.exists() {
            std::fs::remove_dir_all(&self.dir).with_context(|| format!("empty {}", self.dir.display()))?;
        }
        std::fs::create_dir_all(&self.dir)?;
        for rule in ["payer", "red_packet"] {
            let from = root().join("rules").join(rule).join(format!("{rule}.wasm"));
            let to = self.dir.join(format!("{rule}.wasm"));
            std::fs::copy(&from, &to).with_context(|| format!("copy {}", from.display()))?;
        }
        Ok(())
    }

    fn make_stream(&self) -> Result<Vec<PathBuf>> {
        println!("\n== a shop's stream: {} changes, {} users\n", grouped(EVENTS), grouped(USERS));
        let mut make = Command::new(release_binary("shop"));
        make.args(["make", "stream", "--partitions", "2"]).current_dir(&self.dir);
        make.args(["--events", &EVENTS.to_string(), "--users", &USERS.to_string()]);
        Ok(output(&mut make)?.lines().map(PathBuf::from).collect())
    }

    fn config(&self) -> PathBuf {
        self.dir.join("retag.toml")
    }

    fn write_config(&self, files: &[PathBuf]) -> Result<()> {
        let quoted = |path: &PathBuf| format!("{:?}", path.to_string_lossy());
        let paths: Vec<String> = files.iter().map(quoted).collect();
        let rule = |rule: &&str| format!("[rules.{rule}]\npath = \"{rule}.wasm\"\n\n");
        let rules: String = self.rules.iter().map(rule).collect();
        let text = format!(
            "[state]\ndir = \"data\"\n\n\
             [sources.shop]\ntype = \"files\"\nformat = \"maxwell\"\npaths = [{}]\nhistory = \"complete\"\n\n\
             {rules}[sinks.out]\ntype = \"ndjson\"\npath = \"labels.ndjson\"\n",
            paths.join(", ")
        );
        std::fs::write(self.config(), &text).with_context(|| format!("write {}", self.config().display()))?;
        println!("retag.toml:");
        text.lines().for_each(|line| println!("    {line}"));
        Ok(())
    }

    /// `retag ARGUMENTS --config …`.
    fn retag<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = Command::new(release_binary("retag"));
        command.args(arguments).arg("--config").arg(self.config());
        command
    }

    fn show_transitions(&self) -> Result<()> {
        let path = self.dir.join("labels.ndjson");
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let kinds = kinds(&text);
        println!("\n== {} labels changed hands\n", grouped(text.lines().count() as u64));
        for (name, lines) in ["appeared", "changed", "disappeared"].iter().zip(&kinds) {
            let colon = if lines.is_empty() { "" } else { ", among them:" };
            println!("{} {name}{colon}", grouped(lines.len() as u64));
            for line in lines.iter().rev().take(SHOWN).rev() {
                println!("  {}", sentence(line));
            }
        }
        if text.is_empty() {
            bail!("{} is empty: no label was given", path.display());
        }
        Ok(())
    }

    /// Recomputes aggregates and label counts from the final rows and compares.
    fn check(&self, files: &[PathBuf]) -> Result<()> {
        let mut recompute = Command::new(release_binary("shop"));
        recompute.args(["recompute", "expected"]).args(files).current_dir(&self.dir);
        print!("{}", output(&mut recompute)?);
        let expected = self.dir.join("expected");
        for rule in &self.rules {
            let name = format!("{rule}.csv");
            let csv = output(&mut self.retag(["export", "aggregates", rule, "-o", "csv"]))?;
            std::fs::write(self.dir.join(&name), csv)?;
            let keys = equal_tables(&expected.join(&name), &self.dir.join(&name))?;
            println!("aggregates of rule {rule}: EXACT, {} users", grouped(keys));
        }
        let wrong = self.check_members(&expected.join("labels.csv"))?;
        if wrong > 0 {
            bail!("{wrong} labels have another number of members than the recomputation");
        }
        Ok(())
    }

    fn check_members(&self, expected: &Path) -> Result<u64> {
        let mut wrong = 0;
        for line in std::fs::read_to_string(expected)?.lines().skip(1) {
            let [rule, label, value, count] = *line.split(',').collect::<Vec<_>>() else {
                bail!("{}: `{line}` has not four columns", expected.display())
            };
            if !self.rules.contains(&rule) {
                continue;
            }
            let name = if value.is_empty() { label.to_owned() } else { format!("{label}={value}") };
            let printed = output(&mut self.retag(["members", &name, "--count"]))?;
            let found = last_number(&printed);
            let same = found == count.parse().ok();
            wrong += u64::from(!same);
            println!("  {name:<14} {:>9}  {}", printed.trim(), if same { "EXACT" } else { "DIFFERS" });
            if !same {
                println!("  {name:<14} {count:>9}  recomputed");
            }
        }
        Ok(wrong)
    }

    fn show_ways_on(&self) {
        let retag = shortened(&release_binary("retag"));
        let config = shortened(&self.config());
        let shown = shortened(&self.dir);
        println!(
            "\n== look at it\n
  {retag} get user/10001 --config {config}
  {retag} members never_paid --limit 10 --config {config}
  {retag} members big_spender --count --config {config}
  {retag} export aggregates payer -o csv --config {config}
  {retag} status --config {config}

It lies in {shown}: the stream in stream, the state in data, what went out in labels.ndjson.

Next: change a threshold (params = {{ big_spender_min = \"100.00\" }} under [rules.payer]) and run again
  {retag} run --until-end --config {config}
or write a rule of your own
  {retag} rule init my-rule"
        );
    }
}

/// The path as seen from here, if it lies below.
fn shortened(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here).unwrap_or(path).display().to_string()
}

/// Lines of the NDJSON sink: labels that appeared, changed their value, disappeared.
fn kinds(text: &str) -> [Vec<&str>; 3] {
    let mut kinds: [Vec<&str>; 3] = Default::default();
    let [appeared, changed, disappeared] = &mut kinds;
    for line in text.lines() {
        let had_none = matches!(json_field(line, "previous"), None | Some("null"));
        match json_field(line, "op") {
            Some("set") if had_none => appeared.push(line),
            Some("set") => changed.push(line),
            _ => disappeared.push(line),
        }
    }
    kinds
}

/// One transition for people.
fn sentence(line: &str) -> String {
    let field = |name| json_field(line, name).filter(|text| *text != "null").unwrap_or("");
    let (entity, key, label) = (field("entity"), field("key"), field("label"));
    let (value, previous) = (field("value"), field("previous"));
    let what = match (field("op"), value, previous) {
        ("set", "", _) | ("set", "true", _) => format!("is {label}"),
        ("set", value, "") => format!("has {label} {value}"),
        ("set", value, previous) => format!("has {label} {value}, no longer {previous}"),
        (_, _, "" | "true") => format!("is no longer {label}"),
        (.., previous) => format!("has no {label} any more (was {previous})"),
    };
    format!("{entity}/{key} {what}   (commit {}, {})", field("commit"), field("cause"))
}

/// The last whole number in a text, grouping commas aside.
fn last_number(text: &str) -> Option<u64> {
    let words = text.split_whitespace().rev();
    words.filter_map(|word| word.replace(',', "").parse().ok()).next()
}

#[cfg(test)]
mod tests {
    use super::{kinds, last_number, sentence};

    const SET: &str = r#"{"id":"a","entity":"user","key":"42","label":"never_paid","op":"set","value":null,"previous":null,"cause":"change","commit":3}"#;

    #[test]
    fn transitions_are_told_apart_and_read_as_sentences() {
        let changed = SET.replace(r#""value":null,"previous":null"#, r#""value":"gold","previous":"silver""#);
        let gone = SET.replace(r#""op":"set""#, r#""op":"unset""#);
        let text = [SET, &changed, &gone, SET].join("\n");
        assert_eq!(kinds(&text).map(|lines| lines.len()), [2, 1, 1]);
        assert_eq!(sentence(SET), "user/42 is never_paid   (commit 3, change)");
        assert!(sentence(&changed).contains("has never_paid gold, no longer silver"));
        assert!(sentence(&gone).contains("is no longer never_paid"));
    }

    #[test]
    fn a_count_is_read_however_it_is_shown() {
        assert_eq!(last_number("1,234\n"), Some(1_234));
        assert_eq!(last_number("never_paid 17"), Some(17));
        assert_eq!(last_number("none"), None);
    }
}
