//! Is everything what the model says? Aggregates and labels of the live revision, the sets that the sink's file adds up to,
//! and the number of changes. Asked when the stream stands still and everything is delivered.

use super::host::{Host, LIMIT};
use super::variant::{KeyLabels, Variant};
use crate::model::{Model, PayerRow};
use anyhow::{Context, Result, bail};
use retag_host::clock::moment;
use serde::Deserialize;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;

/// Members of one page.
const PAGE: usize = 10_000;

/// The model, and how far files are read into it.
pub struct Judge {
    model: Model,
    stream: Vec<(PathBuf, u64)>,
    sink: SinkSets,
    /// Comparisons so far.
    pub checks: u64,
}

/// What was compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Users with aggregates.
    pub keys: u64,
    /// Labels that they carry.
    pub labels: u64,
    /// Changes that were applied.
    pub changes: u64,
}

/// How long the sink's file may take after the host has come to rest.
const SINK_LIMIT: Duration = Duration::from_secs(30);

impl Judge {
    /// Of the stream in these files.
    #[must_use]
    pub fn new(files: &[PathBuf]) -> Self {
        let stream = files.iter().map(|path| (path.clone(), 0)).collect();
        Self { model: Model::new(), stream, sink: SinkSets::default(), checks: 0 }
    }

    /// Waits until everything is read, delivered and told, then compares. `live` says what the live revision should be.
    ///
    /// # Errors
    /// The first that differs, or a host that does not come to rest.
    pub fn check(&mut self, host: &mut Host, live: (&Variant, i128)) -> Result<Compared> {
        at_rest(host)?;
        for (path, from) in &mut self.stream {
            let mut lines = lines_from(path, from)?;
            while let Some(line) = lines.next_line()? {
                self.model.apply(line).with_context(|| path.display().to_string())?;
            }
        }
        let changes = self.model.messages() - self.model.duplicates();
        let applied = metric(&host.get("/metrics")?.success("/metrics")?.body, "retag_changes_total");
        if applied != Some(changes) {
            bail!("changes: {applied:?} were applied, the stream holds {changes}");
        }
        let (variant, big_spender_min) = live;
        let rows = self.model.payer_side(variant.map);
        same_aggregates(host, &rows)?;
        let of = rows.iter().map(|(user, row)| (*user, variant.labels_of(row, big_spender_min)));
        let expected: BTreeMap<u64, KeyLabels> = of.filter(|(_, labels)| !labels.is_empty()).collect();
        same("labels that the host reads", &expected, &carried(host)?)?;
        self.wait_for_sink(host, &expected)?;
        self.checks += 1;
        let labels = expected.values().map(|labels| labels.len() as u64).sum();
        Ok(Compared { keys: rows.len() as u64, labels, changes })
    }

    /// What is delivered is known to the state only with the next commit, so the file itself is asked.
    fn wait_for_sink(&mut self, host: &Host, expected: &BTreeMap<u64, KeyLabels>) -> Result<()> {
        let (path, begin) = (host.dir.join("labels.ndjson"), moment());
        loop {
            self.sink.read_on(&path)?;
            let compared = same("labels that the sink's file adds up to", expected, &self.sink.labels);
            if compared.is_ok() || begin.elapsed() > SINK_LIMIT {
                return compared;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Nothing waits to be read or told.
fn at_rest(host: &mut Host) -> Result<()> {
    let begin = moment();
    loop {
        let status = host.read("/v1/status")?;
        let partitions = status["sources"].as_array().into_iter().flatten();
        let mut partitions = partitions.flat_map(|s| s["partitions"].as_array().into_iter().flatten());
        let read = partitions.all(|p| p["lag_bytes"] == 0);
        let operations = host.read("/v1/operations")?;
        let told = operations["operations"]
            .as_array()
            .is_some_and(|all| all.iter().all(|o| o["state"] != "running"));
        if read && told {
            return Ok(());
        }
        if begin.elapsed() > LIMIT {
            bail!(
                "the host does not come to rest within {LIMIT:?}: {status} {operations}; it said:\n{}",
                host.said()
            );
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The figure of a metric without labels.
fn metric(text: &[u8], name: &str) -> Option<u64> {
    let text = String::from_utf8_lossy(text);
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

fn same_aggregates(host: &mut Host, rows: &BTreeMap<u64, PayerRow>) -> Result<()> {
    let path = "/v1/rules/payer/aggregates?format=csv";
    let text = String::from_utf8(host.get(path)?.success(path)?.body)?;
    let expected = PayerRow::to_csv(rows);
    let by_key = |text: &str| -> BTreeMap<String, String> {
        let lines = text.lines().map(|line| line.split_once(',').unwrap_or((line, "")));
        lines.map(|(key, rest)| (key.to_owned(), rest.to_owned())).collect()
    };
    // Revisions of the same rule name their aggregates alike, so the headings are equal too.
    same("aggregates", &by_key(&expected), &by_key(&text))
}

/// Two tables are equal, or the first differences and their number are the error.
fn same<K: Ord + std::fmt::Debug, V: PartialEq + std::fmt::Debug>(
    what: &str,
    expected: &BTreeMap<K, V>,
    found: &BTreeMap<K, V>,
) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    let keys: std::collections::BTreeSet<&K> = expected.keys().chain(found.keys()).collect();
    let differing: Vec<&K> = keys.into_iter().filter(|key| expected.get(key) != found.get(key)).collect();
    let shown = differing
        .iter()
        .take(5)
        .map(|key| format!("\n  {key:?}: recomputed {:?}, found {:?}", expected.get(key), found.get(key)));
    bail!("{what}: {} keys DIFFER of {}:{}", differing.len(), expected.len(), shown.collect::<String>());
}

/// Labels of all users, from the lists of members.
fn carried(host: &mut Host) -> Result<BTreeMap<u64, KeyLabels>> {
    let rules = host.read("/v1/rules")?;
    let payer = rules["rules"].as_array().into_iter().flatten().find(|r| r["rule"] == "payer");
    let labels: Vec<String> = payer.context("no rule payer")?["labels"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|label| label["label"].as_str().map(str::to_owned))
        .collect();
    let mut all: BTreeMap<u64, KeyLabels> = BTreeMap::new();
    for label in labels {
        let first = format!("/v1/labels/{label}/members?limit={PAGE}");
        let mut page = Some(first.clone());
        while let Some(path) = page {
            let answer = host.read(&path)?;
            for member in answer["members"].as_array().into_iter().flatten() {
                let key =
                    member["key"].as_str().and_then(|key| key.parse().ok()).context("a member's key")?;
                let value = member["value"].as_str().unwrap_or_default().to_owned();
                all.entry(key).or_default().insert(label.clone(), value);
            }
            page = answer["next"].as_str().map(|cursor| format!("{first}&cursor={cursor}"));
        }
    }
    Ok(all)
}

/// What the messages of the sink's file add up to.
#[derive(Debug, Default)]
struct SinkSets {
    read: u64,
    labels: BTreeMap<u64, KeyLabels>,
    /// Commit and index of the last message.
    last: (u64, u64),
}

/// The fields of a message that matter here.
#[derive(Deserialize)]
struct Told<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(borrow)]
    label: Cow<'a, str>,
    op: &'a str,
    #[serde(borrow)]
    value: Option<Cow<'a, str>>,
    commit: u64,
    index: u64,
}

impl SinkSets {
    fn read_on(&mut self, path: &PathBuf) -> Result<()> {
        let mut read = self.read;
        let mut lines = lines_from(path, &mut read)?;
        while let Some(line) = lines.next_line()? {
            self.take(line).with_context(|| format!("the sink's file: {}", String::from_utf8_lossy(line)))?;
        }
        self.read = read;
        Ok(())
    }

    fn take(&mut self, line: &[u8]) -> Result<()> {
        let told: Told<'_> = serde_json::from_slice(line)?;
        let at = (told.commit, told.index);
        if at <= self.last {
            bail!(
                "a message comes behind the one of commit {} and index {}: twice, or out of order",
                self.last.0,
                self.last.1
            );
        }
        self.last = at;
        let key: u64 = told.key.parse().context("a key")?;
        let labels = self.labels.entry(key).or_default();
        if told.op == "set" {
            let value = told.value.unwrap_or_default().into_owned();
            if labels.insert(told.label.into_owned(), value.clone()) == Some(value) {
                bail!("sets what is set: a transition was told twice, or one before it never");
            }
        } else if labels.remove(&*told.label).is_none() {
            bail!("unsets what is not set: a transition was told twice, or one before it never");
        }
        if labels.is_empty() {
            self.labels.remove(&key);
        }
        Ok(())
    }
}

/// Whole lines of a file behind a position, which goes on with them.
struct Lines<'a> {
    file: BufReader<File>,
    line: Vec<u8>,
    at: &'a mut u64,
}

fn lines_from<'a>(path: &PathBuf, at: &'a mut u64) -> Result<Lines<'a>> {
    let mut file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    file.seek(SeekFrom::Start(*at))?;
    Ok(Lines { file: BufReader::with_capacity(1 << 20, file), line: Vec::new(), at })
}

impl Lines<'_> {
    fn next_line(&mut self) -> Result<Option<&[u8]>> {
        self.line.clear();
        let n = self.file.read_until(b'\n', &mut self.line)?;
        if !self.line.ends_with(b"\n") {
            return Ok(None);
        }
        *self.at += n as u64;
        Ok(Some(&self.line[..n - 1]))
    }
}

/// A revision's number, release and threshold, as the host says them.
///
/// # Errors
/// It does not say.
pub fn live_revision(host: &mut Host) -> Result<(u64, i128)> {
    let revisions = host.read("/v1/rules/payer/revisions")?;
    let all = revisions["revisions"].as_array().context("revisions")?;
    let live = all.iter().find(|r| r["release"] == "live").context("no revision is live")?;
    let number = live["revision"].as_u64().context("a revision's number")?;
    Ok((number, threshold(&live["params"]["big_spender_min"])?))
}

/// The parameter in hundredths; absent = its default.
fn threshold(given: &Value) -> Result<i128> {
    let text = given.as_str().unwrap_or("5000.00");
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    if text.split_once('.').is_none_or(|(_, decimals)| decimals.len() != 2) {
        bail!("big_spender_min is {text}");
    }
    Ok(digits.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(index: u64, label: &str, op: &str, value: Option<&str>) -> Vec<u8> {
        let value = serde_json::to_string(&value).unwrap();
        let text = format!(
            r#"{{"id":"x","entity":"user","key":"42","label":"{label}","op":"{op}","value":{value},"commit":7,"index":{index}}}"#
        );
        text.into_bytes()
    }

    #[test]
    fn what_is_told_twice_or_never_is_found() {
        let mut sets = SinkSets::default();
        sets.take(&line(1, "tier", "set", Some("silver"))).unwrap();
        sets.take(&line(2, "never_paid", "set", None)).unwrap();
        sets.take(&line(3, "tier", "set", Some("gold"))).unwrap();
        assert_eq!(sets.labels[&42]["tier"], "gold");
        for (op, label) in [("set", "never_paid"), ("unset", "refunder")] {
            let mut sets = SinkSets { labels: sets.labels.clone(), ..SinkSets::default() };
            assert!(sets.take(&line(4, label, op, None)).is_err(), "{op} {label}");
        }
        assert!(sets.take(&line(3, "never_paid", "unset", None)).is_err(), "again");
        sets.take(&line(4, "never_paid", "unset", None)).unwrap();
        sets.take(&line(5, "tier", "unset", None)).unwrap();
        assert!(sets.labels.is_empty());
    }

    #[test]
    fn a_difference_is_named_with_its_key() {
        let table = |n: u64| BTreeMap::from([(1, n), (2, 7)]);
        same("sums", &table(3), &table(3)).unwrap();
        let error = same("sums", &table(3), &table(4)).unwrap_err().to_string();
        assert!(
            error.contains("1 keys DIFFER of 2") && error.contains("1: recomputed Some(3), found Some(4)"),
            "{error}"
        );
        assert_eq!(metric(b"retag_changes_total 12\n", "retag_changes_total"), Some(12));
        assert_eq!(threshold(&"100.50".into()).unwrap(), 10_050);
        assert!(threshold(&"100".into()).is_err());
    }
}
