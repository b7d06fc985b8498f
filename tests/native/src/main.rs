//! Rule `payer` written by hand: one query, in memory, nothing durable, no ledger, no labels. The bench's ceiling.
//!
//! `native run --threads 2 --with spec [--out CSV] FILES…` prints events/s. Each thread decodes its share of the files
//! and owns the users of its shard; changes of other shards travel in batches over a channel. Streams must be complete
//! and without re-sends; user ids must lie below 2^40 and merchants below 2^24 (one word keys a pair).
#![allow(
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::disallowed_methods
)] // a measuring program for one trusted stream; it measures, so it reads the clock

mod decode;
mod query;

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use decode::{Change, Decoder, With};
use query::State;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Bytes read at once; what is read stays in the cache until it is decoded.
const CHUNK: usize = 1 << 18;
/// Changes that travel together.
const BATCH: usize = 4_096;
const USAGE: &str = "usage: native run [--threads N] [--with spec|scan] [--out CSV] FILE…";

struct Arguments {
    threads: usize,
    with: With,
    out: Option<PathBuf>,
    files: Vec<PathBuf>,
}

fn arguments() -> Result<Arguments> {
    let mut given = std::env::args().skip(1);
    if given.next().as_deref() != Some("run") {
        bail!("{USAGE}");
    }
    let mut parsed = Arguments { threads: 2, with: With::Spec, out: None, files: Vec::new() };
    while let Some(argument) = given.next() {
        match argument.as_str() {
            "--threads" => parsed.threads = given.next().context(USAGE)?.parse().context(USAGE)?,
            "--out" => parsed.out = Some(given.next().context(USAGE)?.into()),
            "--with" => {
                parsed.with = match given.next().as_deref() {
                    Some("spec") => With::Spec,
                    Some("scan") => With::Scan,
                    other => bail!("--with spec or scan, not {other:?}"),
                }
            }
            file => parsed.files.push(file.into()),
        }
    }
    if parsed.files.is_empty() || parsed.threads == 0 {
        bail!("{USAGE}");
    }
    Ok(parsed)
}

/// Calls `each` for every line of the file and returns how many there are.
fn lines(path: &Path, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<u64> {
    let mut file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let mut buffer = vec![0u8; 2 * CHUNK];
    let (mut kept, mut count) = (0, 0);
    loop {
        if kept == buffer.len() {
            buffer.resize(buffer.len() * 2, 0);
        }
        let room = (kept + CHUNK).min(buffer.len());
        let read = file.read(&mut buffer[kept..room])?;
        if read == 0 {
            break;
        }
        let end = kept + read;
        let mut start = 0;
        while let Some(length) = memchr::memchr(b'\n', &buffer[start..end]) {
            each(&buffer[start..start + length])?;
            start += length + 1;
            count += 1;
        }
        buffer.copy_within(start..end, 0);
        kept = end - start;
    }
    if kept > 0 {
        each(&buffer[..kept])?;
        count += 1;
    }
    Ok(count)
}

/// One thread: the shard it owns and the ways to the others.
struct Worker {
    index: usize,
    state: State,
    inbox: Receiver<Vec<Change>>,
    others: Vec<Sender<Vec<Change>>>,
    outgoing: Vec<Vec<Change>>,
}

impl Worker {
    fn run(mut self, files: &[PathBuf], with: With) -> Result<(u64, State)> {
        let decoder = Decoder::new(with);
        let workers = self.others.len();
        let mut count = 0;
        for path in files.iter().skip(self.index).step_by(workers) {
            count += lines(path, |line| match decoder.decode(line)? {
                Some(change) => self.route(change),
                None => Ok(()),
            })
            .with_context(|| format!("{}", path.display()))?;
        }
        for (target, batch) in std::mem::take(&mut self.outgoing).into_iter().enumerate() {
            self.send(target, batch)?;
        }
        self.others.clear();
        while let Ok(batch) = self.inbox.recv() {
            batch.iter().for_each(|change| self.state.apply(change));
        }
        Ok((count, self.state))
    }

    /// Splits a change whose images belong to different users, and brings each part to its owner.
    #[inline]
    fn route(&mut self, change: Change) -> Result<()> {
        match change.users() {
            (Some(before), Some(after)) if before != after => {
                let (minus, plus) = change.split();
                self.hand(minus, before)?;
                self.hand(plus, after)
            }
            (Some(user), _) | (None, Some(user)) => self.hand(change, user),
            (None, None) => Ok(()),
        }
    }

    #[inline]
    fn hand(&mut self, change: Change, user: u64) -> Result<()> {
        if user >= 1 << 40 {
            bail!("user {user} is above 2^40: this program is for streams made with --no-huge-ids");
        }
        let shard = (user.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as usize % self.outgoing.len();
        if shard == self.index {
            self.state.apply(&change);
            return Ok(());
        }
        self.outgoing[shard].push(change);
        if self.outgoing[shard].len() == BATCH {
            let batch = std::mem::replace(&mut self.outgoing[shard], Vec::with_capacity(BATCH));
            self.send(shard, batch)?;
            while let Ok(batch) = self.inbox.try_recv() {
                batch.iter().for_each(|change| self.state.apply(change));
            }
        }
        Ok(())
    }

    fn send(&self, target: usize, batch: Vec<Change>) -> Result<()> {
        if target == self.index || batch.is_empty() {
            return Ok(());
        }
        self.others[target].send(batch).map_err(|_| anyhow!("another thread stopped"))
    }
}

fn run(files: &[PathBuf], threads: usize, with: With) -> Result<(u64, Vec<State>)> {
    let (senders, inboxes): (Vec<_>, Vec<_>) = (0..threads).map(|_| channel::<Vec<Change>>()).unzip();
    let workers = inboxes.into_iter().enumerate().map(|(index, inbox)| Worker {
        index,
        state: State::default(),
        inbox,
        others: senders.clone(),
        outgoing: (0..threads).map(|_| Vec::with_capacity(BATCH)).collect(),
    });
    let workers: Vec<Worker> = workers.collect();
    drop(senders);
    std::thread::scope(|scope| {
        let handles: Vec<_> =
            workers.into_iter().map(|worker| scope.spawn(move || worker.run(files, with))).collect();
        let (mut count, mut states) = (0, Vec::new());
        for handle in handles {
            let (lines, state) = handle.join().map_err(|_| anyhow!("a thread panicked"))??;
            count += lines;
            states.push(state);
        }
        Ok((count, states))
    })
}

fn write_csv(path: &Path, states: &[State]) -> Result<()> {
    let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    writeln!(out, "user_id,paid_orders,spent,refunded,merchants,registered")?;
    let mut rows: Vec<_> = states.iter().flat_map(State::rows).collect();
    rows.sort_unstable_by_key(|(user, _)| *user);
    for (user, row) in rows {
        let registered = u8::from(row.registered > 0);
        let (whole, cents) = (row.cents / 100, row.cents % 100);
        writeln!(
            out,
            "{user},{},{whole}.{cents:02},{},{},{registered}",
            row.paid, row.refunded, row.merchants
        )?;
    }
    Ok(out.flush()?)
}

fn main() -> Result<()> {
    let arguments = arguments()?;
    let start = Instant::now();
    let (count, states) = run(&arguments.files, arguments.threads, arguments.with)?;
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{{\"events\":{count},\"seconds\":{seconds:.4},\"events_per_second\":{:.0}}}",
        count as f64 / seconds
    );
    if let Some(path) = &arguments.out {
        write_csv(path, &states)?;
    }
    // Freeing millions of entries takes time and helps nobody.
    std::mem::forget(states);
    Ok(())
}
