//! The three requests of Kafka's protocol that starting a broker and making topics take, so that nothing here needs a C
//! library: Metadata 1, CreateTopics 2 and DeleteTopics 1 (<https://kafka.apache.org/protocol>).
//!
//! A request is its length, then header and body; numbers are big-endian, texts and arrays have their length in front.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

const LIMIT: Duration = Duration::from_secs(10);
const METADATA: (i16, i16) = (3, 1);
const CREATE_TOPICS: (i16, i16) = (19, 2);
const DELETE_TOPICS: (i16, i16) = (20, 1);
/// Longest answer that is read.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// What a broker knows.
pub(crate) struct Metadata {
    pub(crate) brokers: usize,
    /// Partitions with a leader of all topics asked for.
    pub(crate) partitions: i32,
}

/// Asks about brokers and the given topics.
pub(crate) fn metadata(port: u16, topics: &[&str]) -> Result<Metadata> {
    let mut body = Vec::new();
    put_count(&mut body, topics.len())?;
    for topic in topics {
        put_text(&mut body, topic)?;
    }
    let answer = ask(port, METADATA, &body)?;
    let mut answer = Answer(&answer);
    let brokers = answer.count()?;
    for _ in 0..brokers {
        answer.i32()?;
        answer.text()?;
        answer.i32()?;
        answer.text()?;
    }
    answer.i32()?; // the controller
    let mut partitions = 0;
    for _ in 0..answer.count()? {
        answer.i16()?; // an unknown topic has no partition
        answer.text()?;
        answer.take(1)?;
        for _ in 0..answer.count()? {
            answer.i16()?;
            answer.i32()?;
            let leader = answer.i32()?;
            for _ in 0..2 {
                let ids = answer.count()?;
                answer.take(4 * ids)?;
            }
            partitions += i32::from(leader >= 0);
        }
    }
    Ok(Metadata { brokers, partitions })
}

/// Makes a topic.
pub(crate) fn create_topic(port: u16, name: &str, partitions: i32, own: &[(&str, &str)]) -> Result<()> {
    let mut body = Vec::new();
    put_count(&mut body, 1)?;
    put_text(&mut body, name)?;
    body.extend(partitions.to_be_bytes());
    body.extend(1i16.to_be_bytes()); // replicas
    put_count(&mut body, 0)?; // assignments
    put_count(&mut body, own.len())?;
    for (name, value) in own {
        put_text(&mut body, name)?;
        put_text(&mut body, value)?;
    }
    put_timeout(&mut body)?;
    body.push(0); // not only validated
    let answer = ask(port, CREATE_TOPICS, &body)?;
    let mut answer = Answer(&answer);
    answer.i32()?; // throttled for
    for _ in 0..answer.count()? {
        let (topic, error, reason) = (answer.text()?, answer.i16()?, answer.text()?);
        ensure!(error == 0, "the broker did not make topic {topic} (error {error}): {reason}");
    }
    Ok(())
}

/// Removes a topic.
pub(crate) fn delete_topic(port: u16, name: &str) -> Result<()> {
    let mut body = Vec::new();
    put_count(&mut body, 1)?;
    put_text(&mut body, name)?;
    put_timeout(&mut body)?;
    let answer = ask(port, DELETE_TOPICS, &body)?;
    let mut answer = Answer(&answer);
    answer.i32()?; // throttled for
    for _ in 0..answer.count()? {
        let (topic, error) = (answer.text()?, answer.i16()?);
        ensure!(error == 0, "the broker did not remove topic {topic} (error {error})");
    }
    Ok(())
}

/// One request on a connection of its own; the answer without its header.
fn ask(port: u16, (key, version): (i16, i16), body: &[u8]) -> Result<Vec<u8>> {
    let mut request = Vec::new();
    request.extend(key.to_be_bytes());
    request.extend(version.to_be_bytes());
    request.extend(0i32.to_be_bytes()); // number of the request
    put_text(&mut request, "retag-servers")?;
    request.extend(body);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, LIMIT).context("connect to the broker")?;
    stream.set_read_timeout(Some(LIMIT))?;
    let mut message = Vec::new();
    put_count(&mut message, request.len())?;
    message.extend(request);
    stream.write_all(&message)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length).context("no answer from the broker")?;
    let length = usize::try_from(i32::from_be_bytes(length)).context("length of an answer")?;
    if !(4..ANSWER_BYTES_MAX).contains(&length) {
        bail!("an answer of {length} bytes from the broker");
    }
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer)?;
    Ok(answer.split_off(4)) // behind the number of the request
}

fn put_count(body: &mut Vec<u8>, count: usize) -> Result<()> {
    body.extend(i32::try_from(count)?.to_be_bytes());
    Ok(())
}

fn put_text(body: &mut Vec<u8>, text: &str) -> Result<()> {
    body.extend(i16::try_from(text.len())?.to_be_bytes());
    body.extend(text.as_bytes());
    Ok(())
}

fn put_timeout(body: &mut Vec<u8>) -> Result<()> {
    body.extend(i32::try_from(LIMIT.as_millis())?.to_be_bytes());
    Ok(())
}

/// What is left of an answer.
struct Answer<'a>(&'a [u8]);

impl<'a> Answer<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length).context("the broker's answer is too short")?;
        self.0 = rest;
        Ok(taken)
    }

    fn i16(&mut self) -> Result<i16> {
        Ok(i16::from_be_bytes(self.take(2)?.try_into()?))
    }

    fn i32(&mut self) -> Result<i32> {
        Ok(i32::from_be_bytes(self.take(4)?.try_into()?))
    }

    fn count(&mut self) -> Result<usize> {
        Ok(usize::try_from(self.i32()?.max(0))?)
    }

    /// A text; none is the empty one.
    fn text(&mut self) -> Result<String> {
        let length = usize::try_from(self.i16()?.max(0))?;
        Ok(String::from_utf8_lossy(self.take(length)?).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, put_count, put_text};

    #[test]
    fn what_is_written_is_read_and_a_short_answer_is_an_error() {
        let mut bytes = Vec::new();
        put_text(&mut bytes, "topic").unwrap();
        put_count(&mut bytes, 3).unwrap();
        let mut answer = Answer(&bytes);
        assert_eq!(answer.text().unwrap(), "topic");
        assert_eq!(answer.count().unwrap(), 3);
        assert!(answer.i16().is_err());
        assert_eq!(Answer(&[255, 255]).text().unwrap(), "");
    }
}
