//! Places for connections: so many at once, so many of them for one network, each of which is free again when its connection
//! ends.

use std::collections::HashMap;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use nix::sys::socket::{MsgFlags, Shutdown, recv, shutdown};
use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::stream::Stream;

/// What becomes of one connection more than there are places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OneMore {
    /// It waits in the system's queue until another one ends.
    Waits,
    /// It gets the place of the one that has asked nothing for longest. Where all are at work there is none.
    Displaces,
}

/// The places of a process.
pub struct Places {
    free: Arc<Semaphore>,
    one_more: OneMore,
    most_of_network: usize,
    networks: Mutex<HashMap<IpAddr, usize>>,
    /// Addresses that may have all places.
    exempt: Vec<IpAddr>,
    /// Those that are taken, where one may be displaced.
    taken: Mutex<Vec<Weak<Place>>>,
    /// Counts requests, so that places have an order.
    requests: AtomicU64,
}

impl Places {
    /// So many, and so many of them for one network ([`network`], a /24 of IPv4 and a /48 of IPv6: what one sender can have all
    /// addresses of).
    pub fn new(most: usize, most_of_network: usize, one_more: OneMore) -> Arc<Self> {
        Self::with_exempt(most, most_of_network, one_more, Vec::new())
    }

    /// The same, but these addresses may have all places: load balancers, behind which all senders are.
    pub fn with_exempt(most: usize, most_of_network: usize, one_more: OneMore, exempt: Vec<IpAddr>) -> Arc<Self> {
        Arc::new(Self {
            free: Arc::new(Semaphore::new(most)),
            one_more,
            most_of_network,
            networks: Mutex::default(),
            exempt,
            taken: Mutex::default(),
            requests: AtomicU64::default(),
        })
    }

    /// How many places are taken.
    pub fn taken(&self) -> usize {
        locked(&self.networks).values().sum()
    }

    /// What becomes of one connection more than there are places.
    pub(crate) fn one_more(&self) -> OneMore {
        self.one_more
    }

    /// Waits until there is a place.
    pub(crate) async fn free(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).acquire_owned().await.ok()
    }

    /// Gives a connection from this address a place. It is given back where there is none for it.
    pub fn enter(self: &Arc<Self>, stream: TcpStream, address: IpAddr) -> Result<Arc<Place>, TcpStream> {
        match Arc::clone(&self.free).try_acquire_owned().ok().or_else(|| self.displace()) {
            Some(permit) => self.give(permit, stream, address),
            None => Err(stream),
        }
    }

    /// The same with a place that is free. It stays free where the address's network has its part already.
    pub(crate) fn give(
        self: &Arc<Self>,
        permit: OwnedSemaphorePermit,
        stream: TcpStream,
        address: IpAddr,
    ) -> Result<Arc<Place>, TcpStream> {
        let Some(part) = self.part(address) else { return Err(stream) };
        let place = Arc::new(Place {
            stream: Arc::new(stream),
            held: Mutex::new(Some((permit, part))),
            places: Arc::clone(self),
            asked: AtomicU64::new(0),
            busy: AtomicUsize::new(0),
        });
        place.ask();
        if self.one_more == OneMore::Displaces {
            let mut taken = locked(&self.taken);
            taken.retain(|place| place.strong_count() > 0);
            taken.push(Arc::downgrade(&place));
        }
        Ok(place)
    }

    fn part(self: &Arc<Self>, address: IpAddr) -> Option<Part> {
        let is_exempt = self.exempt.contains(&address.to_canonical());
        let network = network(address, 24, 48);
        let mut networks = locked(&self.networks);
        let count = networks.entry(network).or_default();
        if *count >= self.most_of_network && !is_exempt {
            return None;
        }
        *count += 1;
        Some(Part { places: Arc::clone(self), network })
    }

    /// Closes a connection that is not at work, and takes its place.
    fn displace(&self) -> Option<OwnedSemaphorePermit> {
        let taken: Vec<Arc<Place>> = locked(&self.taken).iter().filter_map(Weak::upgrade).collect();
        let mut idle: Vec<_> = taken.iter().filter(|place| place.busy.load(Ordering::Relaxed) == 0).collect();
        idle.sort_by_key(|place| place.asked.load(Ordering::Relaxed));
        idle.into_iter().filter(|place| !place.has_input()).find_map(|place| place.leave())
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The network of so many bits that an address is of: of IPv4, of IPv6.
pub fn network(address: IpAddr, v4: u32, v6: u32) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            Ipv4Addr::from_bits(address.to_bits() & u32::MAX.checked_shl(32 - v4).unwrap_or_default()).into()
        }
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & u128::MAX.checked_shl(128 - v6).unwrap_or_default()).into()
        }
    }
}

/// What a connection takes of its network's part, until this goes.
struct Part {
    places: Arc<Places>,
    network: IpAddr,
}

impl Drop for Part {
    fn drop(&mut self) {
        let mut networks = locked(&self.places.networks);
        if let Some(count) = networks.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                networks.remove(&self.network);
            }
        }
    }
}

/// A connection's place, which is free when its service goes. Every request of it has it as an extension.
pub struct Place {
    stream: Arc<TcpStream>,
    /// None once it is another one's.
    held: Mutex<Option<(OwnedSemaphorePermit, Part)>>,
    places: Arc<Places>,
    /// The number of its last request.
    asked: AtomicU64,
    /// What goes on that a new connection does not end.
    busy: AtomicUsize,
}

impl Place {
    pub(crate) fn stream(&self) -> &Arc<TcpStream> {
        &self.stream
    }

    /// The connection's bytes, for so long if not for ever.
    pub fn connection(&self, time: Option<Duration>) -> impl AsyncRead + AsyncWrite + Unpin + Send + use<> {
        Stream::new(Arc::clone(&self.stream), time)
    }

    /// Asks something.
    pub fn ask(&self) {
        self.asked.store(self.places.requests.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
    }

    /// It is not closed for another one as long as this lasts.
    pub fn busy(self: &Arc<Self>) -> Busy {
        self.busy.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }

    /// Whether the other side has given up. HTTP's own code does not look while it has something left to read.
    pub fn is_gone(&self) -> bool {
        let state = pin!(self.stream.ready(Interest::READABLE)).poll(&mut Context::from_waker(Waker::noop()));
        matches!(state, Poll::Ready(Ok(ready)) if ready.is_read_closed())
    }

    /// Whether something has come that nobody has read yet.
    fn has_input(&self) -> bool {
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        recv(self.stream.as_raw_fd(), &mut [0], flags).is_ok_and(|length| length > 0)
    }

    /// Closes the connection, and leaves its place to another one, once.
    fn leave(&self) -> Option<OwnedSemaphorePermit> {
        let (permit, _part) = locked(&self.held).take()?;
        // It may be closed already.
        let _ = shutdown(self.stream.as_raw_fd(), Shutdown::Both);
        Some(permit)
    }
}

/// See [`Place::busy`].
pub struct Busy(Arc<Place>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use tokio::net::TcpListener;

    use super::*;

    /// Connections of one listener, as if they came from other addresses.
    struct Server(TcpListener, Arc<Places>);

    impl Server {
        async fn new(most: usize, most_of_network: usize, one_more: OneMore) -> Self {
            Self(TcpListener::bind("127.0.0.1:0").await.unwrap(), Places::new(most, most_of_network, one_more))
        }

        async fn connect(&self) -> (TcpStream, TcpStream) {
            let client = TcpStream::connect(self.0.local_addr().unwrap()).await.unwrap();
            (client, self.0.accept().await.unwrap().0)
        }

        /// The client's end, and its place if there was one.
        async fn enter(&self, address: &str) -> (TcpStream, Option<Arc<Place>>) {
            let (client, stream) = self.connect().await;
            (client, self.1.enter(stream, address.parse().unwrap()).ok())
        }

        async fn take(&self, address: &str) -> Option<Arc<Place>> {
            self.enter(address).await.1
        }
    }

    async fn is_closed(client: &TcpStream) -> bool {
        client.readable().await.unwrap();
        client.try_read(&mut [0]).is_ok_and(|length| length == 0)
    }

    fn is_open(client: &TcpStream) -> bool {
        client.try_read(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    #[tokio::test]
    async fn a_network_gets_its_part_and_gives_it_back() {
        let server = Server::new(4, 2, OneMore::Waits).await;
        let first = server.take("192.0.2.1").await;
        let second = server.take("::ffff:192.0.2.200").await;
        assert!(first.is_some() && second.is_some() && server.take("192.0.2.77").await.is_none());
        assert!(server.take("192.0.3.1").await.is_some());
        let other = server.take("2001:db8:0:1::1").await;
        let same = server.take("2001:db8:0:ffff::2").await;
        assert!(same.is_some() && server.take("2001:db8:1::1").await.is_none(), "all places are taken");
        drop(same);
        assert!(server.take("2001:db8:1::1").await.is_some());
        assert_eq!(server.1.free.available_permits(), 1);
        drop((first, second, other));
        assert_eq!((server.1.free.available_permits(), locked(&server.1.networks).len()), (4, 0));
    }

    #[tokio::test]
    async fn who_is_exempt_may_have_all_places() {
        let places = Places::with_exempt(3, 1, OneMore::Waits, vec![IpAddr::from([192, 0, 2, 1])]);
        let server = Server(TcpListener::bind("127.0.0.1:0").await.unwrap(), places);
        let first = (server.take("192.0.2.1").await, server.take("::ffff:192.0.2.1").await);
        assert!(first.0.is_some() && first.1.is_some() && server.take("192.0.2.2").await.is_none());
        assert_eq!(server.1.taken(), 2);
        assert!(server.take("192.0.2.1").await.is_some());
        drop(first);
        assert_eq!((server.1.taken(), locked(&server.1.networks).len()), (0, 0));
    }

    #[tokio::test]
    async fn one_more_waits_for_another_one_to_end() {
        let server = Server::new(1, 1, OneMore::Waits).await;
        let first = server.take("192.0.2.1").await;
        let mut waiting = pin!(server.1.free());
        assert!(waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        drop(first);
        let permit = waiting.await.unwrap();
        let (_client, stream) = server.connect().await;
        assert!(server.1.give(permit, stream, IpAddr::from([192, 0, 2, 1])).is_ok());
    }

    #[tokio::test]
    async fn one_more_displaces_who_has_asked_nothing_for_longest_and_is_not_at_work() {
        let server = Server::new(4, 4, OneMore::Displaces).await;
        let (at_work, working) = server.enter("192.0.2.1").await;
        let busy = working.as_ref().unwrap().busy();
        let (has_said, said) = server.enter("192.0.2.1").await;
        has_said.try_write(b"GET").unwrap();
        while !said.as_ref().unwrap().has_input() {
            tokio::task::yield_now().await;
        }
        let (has_asked, asked) = server.enter("192.0.2.1").await;
        let (idle, silent) = server.enter("192.0.2.1").await;
        asked.as_ref().unwrap().ask();
        let (_, fifth) = server.enter("192.0.2.1").await;
        assert!(fifth.is_some() && is_closed(&idle).await);
        let sixth_busy = fifth.as_ref().unwrap().busy();
        let (_, sixth) = server.enter("192.0.2.1").await;
        assert!(sixth.is_some() && is_closed(&has_asked).await);
        assert!(is_open(&at_work) && is_open(&has_said));
        // Those that were displaced end later, and leave no second place.
        drop((silent, asked));
        let last_busy = sixth.as_ref().unwrap().busy();
        assert!(server.take("192.0.2.1").await.is_none(), "all are at work");
        drop((busy, sixth_busy, last_busy));
    }

    #[test]
    fn networks_are_what_comes_first_in_an_address() {
        let of = |address: &str, v4, v6| network(address.parse().unwrap(), v4, v6).to_string();
        assert_eq!(of("192.0.2.77", 24, 48), "192.0.2.0");
        assert_eq!(of("::ffff:192.0.2.77", 32, 64), "192.0.2.77");
        assert_eq!(of("2001:db8:1:2:3::4", 24, 48), "2001:db8:1::");
        assert_eq!(of("2001:db8:1:2:3::4", 32, 64), "2001:db8:1:2::");
        assert_eq!((of("192.0.2.77", 0, 0), of("2001:db8::1", 0, 0)), ("0.0.0.0".to_owned(), "::".to_owned()));
    }
}
