//! One table as a bag of row images by primary key.

use std::collections::HashMap;

use anyhow::{Result, bail};

use super::message::Images;

/// A row image that the model keeps.
pub(super) trait Row: Sized + PartialEq {
    /// Its primary key.
    fn primary_key(&self) -> u64;
}

/// Images by primary key, each with how often it was added less how often it was taken away; never with 0.
#[derive(Debug)]
pub(super) struct Table<R> {
    rows: HashMap<u64, Vec<(R, i64)>>,
}

impl<R> Default for Table<R> {
    fn default() -> Self {
        Self { rows: HashMap::new() }
    }
}

impl<R: Row> Table<R> {
    /// Takes the image before the change out and puts the one after it in.
    pub(super) fn change(&mut self, images: Images<R>) {
        if let Some(before) = images.before {
            self.put(before, -1);
        }
        if let Some(after) = images.after {
            self.put(after, 1);
        }
    }

    fn put(&mut self, row: R, times: i64) {
        let key = row.primary_key();
        let images = self.rows.entry(key).or_default();
        match images.iter_mut().find(|(image, _)| *image == row) {
            Some((_, count)) => *count += times,
            None => images.push((row, times)),
        }
        images.retain(|(_, count)| *count != 0);
        if images.is_empty() {
            self.rows.remove(&key);
        }
    }

    /// All images with their counts; after a complete log each stands once.
    pub(super) fn images(&self) -> impl Iterator<Item = (&R, i64)> {
        self.rows.values().flatten().map(|(row, count)| (row, *count))
    }

    /// Names a row that is not there exactly once.
    pub(super) fn settled(&self, table: &str) -> Result<()> {
        for (key, images) in &self.rows {
            if !matches!(images.as_slice(), [(_, 1)]) {
                let counts: Vec<i64> = images.iter().map(|(_, count)| *count).collect();
                bail!(
                    "{table}: row {key} has images with counts {counts:?}, not one: the log is not complete"
                );
            }
        }
        Ok(())
    }
}
