//! Mutations of the real messages, blind and structure-aware: the projecting scanner must give what the strict reader
//! gives, and neither may panic. A failure prints its seed: `RETAG_FUZZ_SEED=n` runs that one alone;
//! `RETAG_FUZZ_EXECUTIONS=1000000` is the long run.

use std::path::Path;

use serde_json::value::RawValue;

use super::*;

/// SplitMix64.
pub(super) struct Random(pub(super) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n.max(1) as u64).unwrap()
    }

    fn pick<'a, T: ?Sized>(&mut self, list: &[&'a T]) -> &'a T {
        list[self.below(list.len())]
    }
}

/// Tokens put in the place of values.
const TOKENS: [&str; 40] = [
    "null",
    "true",
    "false",
    "0",
    "1",
    "-0",
    "7.0",
    "1E3",
    "1e-400",
    "1e400",
    "18446744073709551615",
    "-9223372036854775809",
    "12.345",
    "01",
    "1.",
    "-",
    "nul",
    "\"\"",
    "\"a\"",
    "\"\\u0061\"",
    "\"\\ud83d\\ude00\"",
    "\"\\ud800\"",
    "\"\\q\"",
    "\"a\tb\"",
    "\"2024-02-29 23:59:59.5\"",
    "\"2024-02-30\"",
    "\"0000-00-00 00:00:00\"",
    "\"3q2+7wA=\"",
    "\"insert\"",
    "\"update\"",
    "\"delete\"",
    "\"bin.000001:4\"",
    "\"0-1-7\"",
    "\"shop\"",
    "{}",
    "[]",
    "{\"id\":1,\"old\":{\"id\":2}}",
    "[1,{\"a\":\"}\"}]",
    "{\"a\"}",
    "\"t_all\"",
];

/// Names put in the place of names.
const NAMES: [&str; 22] = [
    "id",
    "v",
    "name",
    "price",
    "data",
    "old",
    "ts",
    "xid",
    "commit",
    "xoffset",
    "gtid",
    "position",
    "server_id",
    "database",
    "table",
    "type",
    "\\u0069d",
    "encrypted",
    "reason",
    "primaryKeyColumns",
    "isDdl",
    "op",
];

type Member = (String, String);

fn split(object: &str) -> Option<Vec<Member>> {
    let text = object.trim();
    text.strip_prefix('{')?;
    let mut members = Vec::new();
    let map: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).ok()?;
    // Values again as raw tokens, so that numbers keep their digits.
    let raw: std::collections::HashMap<String, Box<RawValue>> = serde_json::from_str(text).ok()?;
    for name in map.keys() {
        members.push((name.clone(), raw.get(name)?.get().to_owned()));
    }
    Some(members)
}

fn join(members: &[Member], random: &mut Random) -> String {
    let space = if random.below(8) == 0 { " " } else { "" };
    let members: Vec<String> =
        members.iter().map(|(name, value)| format!("{space}\"{name}\"{space}:{space}{value}")).collect();
    format!("{{{}{space}}}", members.join(","))
}

/// Mostly a value that JSON has.
fn token(random: &mut Random) -> String {
    loop {
        let token = random.pick(&TOKENS);
        if random.below(8) == 0 || serde_json::from_str::<&RawValue>(token).is_ok() {
            return token.to_owned();
        }
    }
}

fn mutate_members(members: &mut Vec<Member>, random: &mut Random) {
    if members.is_empty() {
        return;
    }
    let (at, other) = (random.below(members.len()), random.below(members.len()));
    match random.below(8) {
        0 => members.swap(at, other),
        1 => members.insert(other, members[at].clone()),
        2 => drop(members.remove(at)),
        3 => members[at].1 = token(random),
        4 => members[at].0 = random.pick(&NAMES).to_owned(),
        5 => members.insert(other, (random.pick(&NAMES).to_owned(), token(random))),
        6 => members.rotate_left(other),
        _ => members[at].1 = members[other].1.clone(),
    }
}

fn mutate_structure(line: &str, random: &mut Random) -> Option<String> {
    let mut members = split(line)?;
    for _ in 0..=random.below(3) {
        let inner = members.iter().position(|(name, _)| *name == ["data", "old"][random.below(2)]);
        match inner {
            Some(at) if random.below(3) > 0 => {
                if let Some(mut object) = split(&members[at].1) {
                    mutate_members(&mut object, random);
                    members[at].1 = join(&object, random);
                }
            }
            _ => mutate_members(&mut members, random),
        }
    }
    Some(join(&members, random))
}

fn mutate_bytes(line: &mut Vec<u8>, donor: &[u8], random: &mut Random) {
    for _ in 0..=random.below(3) {
        let at = random.below(line.len());
        match random.below(6) {
            0 => line.truncate(at),
            1 if at < line.len() => line[at] ^= 1 << random.below(8),
            2 if at < line.len() => {
                line[at] = random.pick(&[b"\"", b"\\", b"{", b"}", b",", b":", b"\x00", b"\xff", b"9"])[0]
            }
            3 if at < line.len() => drop(line.remove(at)),
            4 => line.insert(at, b" \"\\{}[],:0e-\xc3"[random.below(13)]),
            _ => {
                line.truncate(at);
                line.extend_from_slice(&donor[random.below(donor.len())..]);
            }
        }
    }
    line.retain(|byte| *byte != b'\n');
}

/// The line with what JSON forbids inside strings masked, byte for byte: the only thing that the scanner lets pass in
/// values that no rule reads.
fn sanitised(line: &[u8]) -> Vec<u8> {
    let mut out = line.to_vec();
    let (mut at, mut inside) = (0, false);
    while at < line.len() {
        match line[at] {
            b'"' => inside = !inside,
            b'\\' if inside => {
                let simple = line.get(at + 1).is_some_and(|next| b"\"\\/bfnrt".contains(next));
                let unit = line.get(at + 1) == Some(&b'u')
                    && line.get(at + 2..at + 6).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
                if !simple && !unit {
                    out[at] = b'?';
                    if let Some(next) = out.get_mut(at + 1) {
                        *next = b'?';
                    }
                }
                at += 1;
            }
            byte if inside && byte < 0x20 => out[at] = b'?',
            _ => {}
        }
        at += 1;
    }
    out
}

struct Bench {
    fast: MaxwellDecoder,
    strict: MaxwellDecoder,
    fast_out: Decoded,
    strict_out: Decoded,
    changes: u64,
    refusals: std::collections::BTreeMap<&'static str, u64>,
    lenient: u64,
}

impl Bench {
    fn check(&mut self, block: &[u8], seed: u64) {
        self.fast.decode(block, 7, &mut self.fast_out);
        self.strict.decode(block, 7, &mut self.strict_out);
        self.changes += self.strict_out.changes.len() as u64;
        if let Some(refusal) = &self.strict_out.refusal {
            *self.refusals.entry(refusal.code).or_default() += 1;
        }
        if self.fast_out != self.strict_out {
            let code = self.strict_out.refusal.as_ref().map(|refusal| refusal.code);
            assert!(matches!(code, Some("not-json" | "truncated-line")), "seed {seed}: {}", self.show(block));
            // Only what the scanner let pass: a message that it refuses too must be refused for what it is.
            let (passed, rest) = block.split_at(usize::try_from(self.fast_out.end - 7).unwrap());
            let clean: Vec<Vec<u8>> = passed.split(|byte| *byte == b'\n').map(sanitised).collect();
            self.strict.decode(&[&clean.join(&b'\n'), rest].concat(), 7, &mut self.strict_out);
            assert!(self.fast_out == self.strict_out, "seed {seed}, malformed inside: {}", self.show(block));
            self.lenient += 1;
        }
    }

    fn show(&self, block: &[u8]) -> String {
        format!("{}\nfast {:?}\nstrict {:?}", String::from_utf8_lossy(block), self.fast_out, self.strict_out)
    }
}

fn plan() -> Plan {
    use Physical::{Bool, Bytes, Date, Decimal, I64, Text, Timestamp, U64, WideDecimal};
    let all = [
        ("id", U64, 0),
        ("name", Text, 0),
        ("price", Decimal, 2),
        ("big_dec", WideDecimal, 10),
        ("b1", Bool, 0),
        ("tags", Text, 0),
        ("d", Date, 0),
        ("dt6", Timestamp, 0),
        ("bl", Bytes, 0),
        ("med", I64, 0),
        ("id", I64, 0),
        ("txt", Bytes, 0),
    ];
    let columns = |list: &[(&str, Physical, u8)]| list.iter().map(|(n, p, s)| column(n, *p, *s)).collect();
    let mut parent = table("shop.parent", columns(&[("id", I64, 0), ("v", Text, 0)]));
    parent.hidden_columns = true;
    Plan {
        tables: vec![
            table("shop.t_all", columns(&all)),
            parent,
            table("shop.comp", columns(&[("v", Decimal, 2)])),
        ],
    }
}

fn corpus() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/maxwell");
    let mut lines: Vec<String> = ["all-output", "default", "no-nulls", "null-zerodates", "bootstrap"]
        .iter()
        .flat_map(|name| {
            let text = std::fs::read_to_string(folder.join(name).with_extension("jsonl")).unwrap();
            text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    let with_gtid = |line: &String| line.replacen(r#","data""#, r#","gtid":"0-101-7","data""#, 1);
    lines.extend(lines.iter().take(30).map(with_gtid).collect::<Vec<_>>());
    lines
}

#[test]
fn the_scanner_gives_what_the_strict_reader_gives() {
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().unwrap());
    let executions = number("RETAG_FUZZ_EXECUTIONS").unwrap_or(20_000);
    let seeds = number("RETAG_FUZZ_SEED").map_or(0..executions, |seed| seed..seed + 1);
    let (plan, corpus) = (Arc::new(plan()), corpus());
    let mut bench = Bench {
        fast: MaxwellDecoder::new(Arc::clone(&plan)),
        strict: MaxwellDecoder::strict(plan),
        fast_out: Decoded::default(),
        strict_out: Decoded::default(),
        changes: 0,
        refusals: std::collections::BTreeMap::new(),
        lenient: 0,
    };
    for seed in seeds {
        let mut random = Random(seed);
        let mut block = Vec::new();
        for _ in 0..=random.below(3) {
            let line = &corpus[random.below(corpus.len())];
            let structured = match random.below(5) {
                0 => line.clone(),
                1 => line.clone(),
                _ => mutate_structure(line, &mut random).unwrap(),
            };
            let mut bytes = structured.into_bytes();
            if random.below(4) == 0 {
                let donor = corpus[random.below(corpus.len())].as_bytes();
                mutate_bytes(&mut bytes, donor, &mut random);
            }
            block.extend_from_slice(&bytes);
            block.push(b'\n');
        }
        if random.below(10) == 0 {
            block.pop();
        }
        bench.check(&block, seed);
    }
    println!("changes {} refusals {:?} malformed-unread {}", bench.changes, bench.refusals, bench.lenient);
    if executions >= 20_000 && number("RETAG_FUZZ_SEED").is_none() {
        assert!(bench.changes > executions / 4, "most mutants must still be read: {}", bench.changes);
        assert!(bench.refusals.len() >= 12, "the refusals must be reached: {:?}", bench.refusals);
    }
}
