//! Where to listen, as one types it: an address and a port, or one of them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

const PORT: u16 = 9465;

/// No name is looked up but `localhost`, which is 127.0.0.1 wherever there is nobody to ask.
pub fn parse(text: &str) -> Result<SocketAddr, &'static str> {
    let wrong =
        "ADDRESS:PORT, a port or an address, such as 127.0.0.1:9465, 9465, localhost or [::1]:9465";
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if let Some(host) = host(text) {
        return Ok((host, PORT).into());
    }
    let (name, port) = text.rsplit_once(':').unwrap_or(("", text));
    let host = if name.is_empty() {
        Some(Ipv4Addr::LOCALHOST.into())
    } else {
        host(name)
    };
    let port = port
        .parse()
        .ok()
        .filter(|_| port.starts_with(|c: char| c.is_ascii_digit()));
    Ok((host.ok_or(wrong)?, port.ok_or(wrong)?).into())
}

fn host(text: &str) -> Option<IpAddr> {
    match text {
        "localhost" => Some(Ipv4Addr::LOCALHOST.into()),
        _ => text
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse()
            .ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn what_one_types() {
        let cases = [
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("9465", "127.0.0.1:9465"),
            (":80", "127.0.0.1:80"),
            ("0", "127.0.0.1:0"),
            ("localhost", "127.0.0.1:9465"),
            ("localhost:80", "127.0.0.1:80"),
            ("0.0.0.0", "0.0.0.0:9465"),
            ("::1", "[::1]:9465"),
            ("[::1]", "[::1]:9465"),
            ("[::]:80", "[::]:80"),
        ];
        for (text, address) in cases {
            assert_eq!(parse(text), Ok(address.parse().unwrap()), "{text}");
        }
        for wrong in [
            "",
            ":",
            "70000",
            "+80",
            "example.com",
            "example.com:80",
            "localhost:",
            "1:x",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
