//! The parts at the edges: reader of a source, committer of the store.

use super::failure::Failure;
use super::message::{Actor, Address, Envelope, Message};
use crate::failpoint::{self, Step};
use crate::source::Source;
use crate::state::{Commit, StateWriter, StoreError, View};
use std::sync::Arc;
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
}

impl Writer {
    /// A writer that shows its views to readers through `shared`.
    #[must_use]
    pub fn new(writer: StateWriter, shared: SharedView) -> Self {
        Self { writer, shared }
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
                out.push(Message::Fold.to(Address::Committer));
            }),
            Message::Fold => self.writer.fold_step().map(|folded| {
                if folded.is_some() {
                    let view = self.writer.view().clone();
                    self.shared.set(view.clone());
                    out.push(Message::Folded(view).to(Address::Pipeline));
                    out.push(Message::Fold.to(Address::Committer));
                }
            }),
            _ => Ok(()),
        };
        if let Err(error) = done {
            out.push(Message::Failed(Box::new(Failure::State(error))).to(Address::Pipeline));
        }
    }
}
