//! Pages of one shard that stand in memory: those that folds wrote last, as far as there is room. A read of one of them asks
//! nothing of the store: there is no copy, no checksum and, above all, no wait while the store notes which files it has, for it
//! shuts its readers out until that is on the disk.
//!
//! Only folds write pages, and each puts what it wrote here; so a page that is here is as the store has it in the same view.

use super::page::Page;
use super::run::Run;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// Pages by the lowest key that they cover.
#[derive(Clone, Debug, Default)]
pub(super) struct PageCache {
    pages: BTreeMap<Box<[u8]>, Cached>,
    bytes: usize,
}

#[derive(Clone, Debug)]
struct Cached {
    run: Arc<Run>,
    /// First key no longer covered; none = the shard's end.
    upper: Option<Box<[u8]>>,
}

impl PageCache {
    fn find(&self, key: &[u8]) -> Option<(&[u8], &Cached)> {
        let up_to_key = (Bound::Unbounded, Bound::Included(key));
        let (lower, cached) = self.pages.range::<[u8], _>(up_to_key).next_back()?;
        cached.upper.as_deref().is_none_or(|upper| key < upper).then_some((lower, cached))
    }

    /// The records of the page that covers `key`, if it is here.
    pub(super) fn run(&self, key: &[u8]) -> Option<&Arc<Run>> {
        self.find(key).map(|(_, cached)| &cached.run)
    }

    /// The page that covers `key`, if it is here.
    pub(super) fn page(&self, key: &[u8]) -> Option<Page> {
        let (lower, Cached { run, upper }) = self.find(key)?;
        Some(Page {
            run: Some(run.clone()),
            lower: lower.to_vec(),
            upper: upper.as_deref().map(<[u8]>::to_vec),
        })
    }

    /// Puts the pages in which a fold wrote one page, in key order, the last of them up to `upper`, in its place, as far as
    /// all pages have `bytes_max` bytes at most.
    pub(super) fn replace(&mut self, written: Vec<(Vec<u8>, Run)>, upper: Option<&[u8]>, bytes_max: usize) {
        let mut upper: Option<Box<[u8]>> = upper.map(Into::into);
        for (lower, run) in written.into_iter().rev() {
            let (lower, bytes) = (lower.into_boxed_slice(), run.len());
            if let Some(before) = self.pages.remove(&lower) {
                self.bytes -= before.run.len();
            }
            let own = upper.replace(lower.clone());
            if self.bytes + bytes <= bytes_max {
                self.bytes += bytes;
                self.pages.insert(lower, Cached { run: Arc::new(run), upper: own });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::run::{RunKind, RunWriter};
    use super::*;

    fn page(lower: &str, stamp: u64) -> (Vec<u8>, Run) {
        let mut run = RunWriter::new(RunKind::Page, stamp);
        run.push(format!("{lower}1").as_bytes(), b"record", b"");
        (lower.into(), Run::open(run.finish(), RunKind::Page).unwrap())
    }

    #[track_caller]
    fn check(cache: &PageCache, key: &str, lower_and_stamp: Option<(&str, u64)>) {
        let found = cache.page(key.as_bytes());
        let found = found.as_ref().map(|page| (str::from_utf8(&page.lower).unwrap(), page.folded()));
        assert_eq!(found, lower_and_stamp, "{key}");
        assert_eq!(cache.run(key.as_bytes()).map(|run| run.stamp()), lower_and_stamp.map(|(_, stamp)| stamp));
    }

    #[test]
    fn a_key_is_found_in_the_page_that_covers_it_alone() {
        let mut cache = PageCache::default();
        cache.replace(vec![page("", 1)], Some(b"f"), 1 << 20);
        cache.replace(vec![page("p", 2)], None, 1 << 20);
        for (key, found) in [("", Some(("", 1))), ("e9", Some(("", 1))), ("f", None), ("p", Some(("p", 2)))] {
            check(&cache, key, found);
        }
        cache.replace(vec![page("", 3), page("c", 3)], Some(b"f"), 1 << 20);
        for (key, found) in [("b", Some(("", 3))), ("c", Some(("c", 3))), ("f", None), ("z", Some(("p", 2)))]
        {
            check(&cache, key, found);
        }
    }

    #[test]
    fn what_has_no_room_is_not_there_in_an_older_form_either() {
        let mut cache = PageCache::default();
        let room = page("", 1).1.len() + page("f", 1).1.len();
        cache.replace(vec![page("", 1)], Some(b"f"), room);
        cache.replace(vec![page("f", 1)], None, room);
        cache.replace(vec![page("", 2), page("c", 2)], Some(b"f"), room);
        for (key, found) in [("a", Some(("", 2))), ("c", None), ("f", Some(("f", 1)))] {
            check(&cache, key, found);
        }
        assert!(cache.bytes <= room && cache.pages.len() == 2);
    }
}
