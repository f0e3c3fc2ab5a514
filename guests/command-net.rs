//! Tries every way out: a name, TCP, UDP, and HTTP to a host. Says how each went.

use wasip2::http::outgoing_handler;
use wasip2::http::types::{Fields, OutgoingRequest, Scheme};
use wasip2::sockets::network::{IpAddressFamily, IpSocketAddress, Ipv4SocketAddress};
use wasip2::sockets::{instance_network, ip_name_lookup, tcp_create_socket, udp_create_socket};

const LOOPBACK: Ipv4SocketAddress = Ipv4SocketAddress { port: 80, address: (127, 0, 0, 1) };
const ANY: Ipv4SocketAddress = Ipv4SocketAddress { port: 0, address: (127, 0, 0, 1) };

fn main() {
    println!("lookup: {}", told(lookup()));
    println!("tcp: {}", told(tcp()));
    println!("udp: {}", told(udp()));
    println!("http: {}", told(http()));
}

fn told(result: Result<(), String>) -> String {
    match result {
        Ok(()) => "allowed".into(),
        Err(error) => format!("refused: {error}"),
    }
}

fn text(error: impl std::fmt::Debug) -> String {
    format!("{error:?}")
}

fn lookup() -> Result<(), String> {
    let network = instance_network::instance_network();
    let addresses = ip_name_lookup::resolve_addresses(&network, "localhost").map_err(text)?;
    addresses.subscribe().block();
    addresses.resolve_next_address().map_err(text)?;
    Ok(())
}

fn tcp() -> Result<(), String> {
    let network = instance_network::instance_network();
    let socket = tcp_create_socket::create_tcp_socket(IpAddressFamily::Ipv4).map_err(text)?;
    socket.start_connect(&network, IpSocketAddress::Ipv4(LOOPBACK)).map_err(text)?;
    socket.subscribe().block();
    socket.finish_connect().map_err(text)?;
    Ok(())
}

fn udp() -> Result<(), String> {
    let network = instance_network::instance_network();
    let socket = udp_create_socket::create_udp_socket(IpAddressFamily::Ipv4).map_err(text)?;
    socket.start_bind(&network, IpSocketAddress::Ipv4(ANY)).map_err(text)?;
    socket.subscribe().block();
    socket.finish_bind().map_err(text)
}

fn http() -> Result<(), String> {
    let request = OutgoingRequest::new(Fields::new());
    request.set_scheme(Some(&Scheme::Http)).map_err(text)?;
    request.set_authority(Some("127.0.0.1")).map_err(text)?;
    request.set_path_with_query(Some("/")).map_err(text)?;
    let response = outgoing_handler::handle(request, None).map_err(text)?;
    response.subscribe().block();
    match response.get() {
        Some(Ok(Ok(_))) => Ok(()),
        other => Err(text(other)),
    }
}
