//! The parts at the edges: reader of a source, committer of the store.

use super::failure::Failure;
use super::message::{Actor, Address, Envelope, Message};
use crate::failpoint::{self, Step};
use crate::source::Source;
use crate::state::{Commit, StateWriter, StoreError, View};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::watch;

/// Reads one source when asked.
pub struct Reader(pub Box<dyn Source>);

impl Actor for Reader {
    fn step(&mut self, message: Message, _: i64, out: &mut Vec<Envelope>) {
        let answer = match message {
            Message::Read { partition, offset, bytes_max } => {
                match self.0.read(partition, offset, bytes_max) {
                    Ok(block) => Message::Block(block),
                    Err(error) => Message::Failed(Box::new(error.into())),
                }
            }
            Message::ReadAgain { lane, partition, offset, bytes_max, until } => {
                let block = self.0.read_again(partition, offset, (bytes_max, until));
                Message::BlockAgain { lane, partition, block }
            }
            Message::Safe(positions) => {
                self.0.safe(&positions);
                return;
            }
            _ => return,
        };
        out.push(answer.to(Address::Pipeline));
    }
}

/// The latest durable view, for readers on any thread.
#[derive(Clone)]
pub struct SharedView(Arc<watch::Sender<Arc<View>>>);

impl SharedView {
    /// Begins with `view`.
    #[must_use]
    pub fn new(view: Arc<View>) -> Self {
        Self(Arc::new(watch::Sender::new(view)))
    }

    /// The latest view.
    #[must_use]
    pub fn get(&self) -> Arc<View> {
        self.0.borrow().clone()
    }

    /// Tells whenever there is a later one.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Arc<View>> {
        self.0.subscribe()
    }

    /// Shows a later one from now on.
    pub(crate) fn set(&self, view: Arc<View>) {
        self.0.send_replace(view);
    }
}

/// The only writer of the store: commits, and between commits folds blocks into pages.
pub struct Writer {
    writer: StateWriter,
    shared: SharedView,
    hold: Arc<AtomicBool>,
    /// A step of a fold is on its way. One at a time: a commit that comes meanwhile stands behind no other.
    folds: bool,
}

impl Writer {
    /// A writer that shows its views to readers through `shared`.
    #[must_use]
    pub fn new(writer: StateWriter, shared: SharedView) -> Self {
        Self { hold: writer.hold(), writer, shared, folds: false }
    }

    fn fold_on(&mut self, out: &mut Vec<Envelope>) {
        if !std::mem::replace(&mut self.folds, true) {
            out.push(Message::Fold.to(Address::Committer));
        }
    }

    fn commit(&mut self, commit: Commit) -> Result<Arc<View>, StoreError> {
        // A commit without blocks, as a switch is, adds nothing that is to be folded, and waits for no fold.
        if !commit.shards.is_empty() {
            while self.writer.must_fold() && self.writer.fold_step()?.is_some() {}
        }
        failpoint::hit(Step::BlockWrite);
        self.writer.commit(commit)
    }
}

impl Actor for Writer {
    fn step(&mut self, message: Message, _: i64, out: &mut Vec<Envelope>) {
        let done = match message {
            Message::Commit(commit) => self.commit(*commit).map(|view| {
                self.shared.set(view.clone());
                out.push(Message::Durable(view).to(Address::Pipeline));
                self.fold_on(out);
            }),
            Message::Fold => {
                self.folds = false;
                // While a command waits for its commit, folds do too; the next commit begins them again.
                let folded =
                    if self.hold.load(Ordering::Relaxed) { Ok(None) } else { self.writer.fold_step() };
                folded.map(|folded| {
                    if folded.is_some() {
                        let view = self.writer.view().clone();
                        self.shared.set(view.clone());
                        out.push(Message::Folded(view).to(Address::Pipeline));
                        self.fold_on(out);
                    }
                })
            }
            _ => Ok(()),
        };
        if let Err(error) = done {
            out.push(Message::Failed(Box::new(Failure::State(error))).to(Address::Pipeline));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::MemStore;

    fn commit(id: u64) -> Message {
        Message::Commit(Box::new(Commit { id, ..Commit::default() }))
    }

    fn folds(writer: &mut Writer, message: Message) -> usize {
        let mut out = Vec::new();
        writer.step(message, 0, &mut out);
        out.iter().filter(|envelope| matches!(envelope.message, Message::Fold)).count()
    }

    #[test]
    fn a_commit_stands_behind_one_step_of_a_fold_at_most_and_behind_none_that_is_held() {
        let (writer, view) = StateWriter::open(Arc::new(MemStore::new())).unwrap();
        let hold = writer.hold();
        let mut writer = Writer::new(writer, SharedView::new(view));
        let pending: Vec<usize> = (1..=3).map(|id| folds(&mut writer, commit(id))).collect();
        assert_eq!(pending, [1, 0, 0], "each commit brought a step of its own");
        hold.store(true, Ordering::Relaxed);
        assert_eq!(folds(&mut writer, Message::Fold), 0);
        hold.store(false, Ordering::Relaxed);
        assert_eq!(folds(&mut writer, commit(4)), 1, "folds go on behind the next commit");
    }
}
