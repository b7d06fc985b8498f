//! `--name value` arguments with their defaults.

use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::str::FromStr;

/// Arguments that are left, by name without the dashes.
#[derive(Debug)]
pub struct Options(BTreeMap<String, String>);

impl Options {
    /// Reads pairs of names and values.
    ///
    /// # Errors
    /// A name without dashes, twice, or without a value.
    pub fn read(arguments: &[String]) -> Result<Self> {
        let mut found = BTreeMap::new();
        for pair in arguments.chunks(2) {
            let name = pair[0].strip_prefix("--").with_context(|| format!("`{}` is no option", pair[0]))?;
            let value = pair.get(1).with_context(|| format!("--{name} wants a value"))?;
            if found.insert(name.to_owned(), value.clone()).is_some() {
                bail!("--{name} stands there twice");
            }
        }
        Ok(Self(found))
    }

    /// Takes one out.
    ///
    /// # Errors
    /// A value that does not read.
    pub fn take<T: FromStr>(&mut self, name: &str, default: T) -> Result<T> {
        match self.0.remove(name) {
            None => Ok(default),
            Some(text) => text.parse().ok().with_context(|| format!("--{name} {text} does not read")),
        }
    }

    /// Nothing may be left.
    ///
    /// # Errors
    /// The first that nobody knows.
    pub fn end(self) -> Result<()> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(name) => bail!("unknown option --{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_taken_once_and_none_is_left() {
        let read = |text: &str| {
            let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
            Options::read(&words)
        };
        let mut options = read("--rate 7 --dir x").unwrap();
        assert_eq!((options.take("rate", 1).unwrap(), options.take("users", 3).unwrap()), (7, 3));
        assert_eq!(options.take("dir", String::new()).unwrap(), "x");
        options.end().unwrap();
        assert!(read("--rate 7").unwrap().end().is_err());
        assert!(read("--rate x").unwrap().take("rate", 1).is_err());
        for bad in ["rate 7", "--rate", "--rate 7 --rate 8"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
