%% A client of HTTP, of streams of events and of WebSocket, that sees the bytes.
-module(erlmcp_shm_wire).

-export([
    request/4,
    request/5,
    open/1,
    socket/1,
    send/4,
    head/1,
    response/1,
    chunk/1,
    event/1,
    ws/2,
    ws/3,
    ws_send/2,
    ws_frame/1,
    ws_text/1,
    zip/1,
    certificate/1,
    json/1,
    term/1
]).

-record(conn, {module :: gen_tcp | ssl, socket, rest = <<>>}).

-define(TIMEOUT, 10000).

json(Term) ->
    {ok, Json} = erlmcp_shm_json:encode(Term),
    Json.

term(Json) ->
    {ok, Term} = erlmcp_shm_json:decode(Json),
    Term.

%%% HTTP

%% On a connection of its own: status, headers, body.
request(Port, Method, Path, Headers) ->
    request(Port, Method, Path, Headers, <<>>).

request(Port, Method, Path, Headers, Body) ->
    Conn = open(Port),
    ok = send(Conn, [Method, " ", Path], Headers, Body),
    {Response, _} = response(Conn),
    Response.

open({tls, Port}) ->
    {ok, Socket} = ssl:connect("127.0.0.1", Port, [binary, {active, false}, {verify, verify_none}], ?TIMEOUT),
    #conn{module = ssl, socket = Socket};
open(Port) ->
    {ok, Socket} = gen_tcp:connect("127.0.0.1", Port, [binary, {active, false}, {nodelay, true}], ?TIMEOUT),
    #conn{module = gen_tcp, socket = Socket}.

socket(#conn{socket = Socket}) ->
    Socket.

send(#conn{module = Module, socket = Socket}, Line, Headers, Body) ->
    Module:send(Socket, [
        Line,
        " HTTP/1.1\r\nhost: localhost\r\n",
        [[Name, ": ", Value, "\r\n"] || {Name, Value} <- Headers],
        case iolist_size(Body) of
            0 -> [];
            Size -> ["content-length: ", integer_to_binary(Size), "\r\n"]
        end,
        "\r\n",
        Body
    ]).

head(#conn{} = Conn) ->
    {Head, Next} = until(<<"\r\n\r\n">>, Conn),
    [First | Lines] = binary:split(Head, <<"\r\n">>, [global]),
    <<"HTTP/1.1 ", Status:3/binary, _/binary>> = First,
    Headers = [
        begin
            [Name, Value] = binary:split(Line, <<": ">>),
            {string:lowercase(Name), Value}
        end
     || Line <- Lines
    ],
    {{binary_to_integer(Status), maps:from_list(Headers)}, Next}.

response(Conn) ->
    case head(Conn) of
        {{Status, #{<<"transfer-encoding">> := <<"chunked">>} = Headers}, Next} ->
            {Body, Last} = chunks(Next, []),
            {{Status, Headers, Body}, Last};
        {{Status, #{<<"content-length">> := Length} = Headers}, Next} ->
            {Body, Last} = bytes(binary_to_integer(Length), Next),
            {{Status, Headers, Body}, Last};
        {{Status, Headers}, Next} ->
            {{Status, Headers, <<>>}, Next}
    end.

chunks(Conn, Chunks) ->
    case chunk(Conn) of
        {<<>>, Next} -> {iolist_to_binary(lists:reverse(Chunks)), Next};
        {Chunk, Next} -> chunks(Next, [Chunk | Chunks])
    end.

chunk(Conn) ->
    {Size, Next} = until(<<"\r\n">>, Conn),
    {Chunk, Last} = bytes(binary_to_integer(Size, 16), Next),
    {<<>>, Done} = until(<<"\r\n">>, Last),
    {Chunk, Done}.

%% One event of a stream, name and data, or `fin'; comments are passed over.
event(Conn) ->
    event(Conn, <<>>).

event(#conn{} = Conn, Text) ->
    case binary:split(Text, <<"\n\n">>) of
        [<<":", _/binary>>, Rest] ->
            event(Conn, Rest);
        [<<"event: ", Event/binary>>, Rest] ->
            [Name, <<"data: ", Data/binary>>] = binary:split(Event, <<"\n">>),
            {{Name, Data}, push(Rest, Conn)};
        [Text] ->
            case chunk(Conn) of
                {<<>>, Next} when Text =:= <<>> -> {fin, Next};
                {Chunk, Next} -> event(Next, <<Text/binary, Chunk/binary>>)
            end
    end.

%% What is left of a chunk becomes one of its own.
push(<<>>, Conn) ->
    Conn;
push(Rest, #conn{rest = Bytes} = Conn) ->
    Size = integer_to_binary(byte_size(Rest), 16),
    Conn#conn{rest = <<Size/binary, "\r\n", Rest/binary, "\r\n", Bytes/binary>>}.

until(Mark, #conn{rest = Rest} = Conn) ->
    case binary:split(Rest, Mark) of
        [Before, After] -> {Before, Conn#conn{rest = After}};
        [_] -> until(Mark, more(Conn))
    end.

bytes(N, #conn{rest = Rest} = Conn) ->
    case Rest of
        <<Bytes:N/binary, After/binary>> -> {Bytes, Conn#conn{rest = After}};
        _ -> bytes(N, more(Conn))
    end.

more(#conn{module = Module, socket = Socket, rest = Rest} = Conn) ->
    case Module:recv(Socket, 0, ?TIMEOUT) of
        {ok, Bytes} -> Conn#conn{rest = <<Rest/binary, Bytes/binary>>};
        {error, Reason} -> error({Reason, Rest})
    end.

%%% WebSocket

ws(Port, Path) ->
    {{101, _}, Conn} = ws(Port, Path, []),
    Conn.

ws(Port, Path, Headers) ->
    Conn = open(Port),
    Upgrade = [
        {"connection", "Upgrade"},
        {"upgrade", "websocket"},
        {"sec-websocket-version", "13"},
        {"sec-websocket-key", base64:encode(crypto:strong_rand_bytes(16))}
    ],
    ok = send(Conn, ["GET ", Path], Upgrade ++ Headers, <<>>),
    head(Conn).

%% A text frame, or one with other first bits and opcode; clients mask.
ws_send(Conn, Text) when is_binary(Text) ->
    ws_send(Conn, {2#1000, 1, Text});
ws_send(#conn{module = Module, socket = Socket}, {Bits, Opcode, Payload}) ->
    Mask = <<Key:32>> = crypto:strong_rand_bytes(4),
    Size = byte_size(Payload),
    Length =
        if
            Size < 126 -> <<1:1, Size:7>>;
            Size < 65536 -> <<1:1, 126:7, Size:16>>;
            true -> <<1:1, 127:7, Size:64>>
        end,
    Module:send(Socket, [<<Bits:4, Opcode:4>>, Length, Mask, mask(Payload, Key, [])]).

mask(<<Word:32, Rest/binary>>, Key, Acc) ->
    mask(Rest, Key, [Acc, <<(Word bxor Key):32>>]);
mask(Rest, Key, Acc) ->
    Bits = bit_size(Rest),
    <<Last:Bits>> = Rest,
    [Acc, <<(Last bxor (Key bsr (32 - Bits))):Bits>>].

%% First bits, opcode and payload as they came; pings are left out.
ws_frame(Conn) ->
    {<<Bits:4, Opcode:4, 0:1, Short:7>>, Next} = bytes(2, Conn),
    {Size, Last} =
        case Short of
            126 -> number(2, Next);
            127 -> number(8, Next);
            _ -> {Short, Next}
        end,
    {Payload, Done} = bytes(Size, Last),
    case Opcode of
        9 -> ws_frame(Done);
        _ -> {{Bits, Opcode, Payload}, Done}
    end.

number(N, Conn) ->
    {Bytes, Next} = bytes(N, Conn),
    {binary:decode_unsigned(Bytes), Next}.

%% The term in a plain text frame.
ws_text(Conn) ->
    {{2#1000, 1, Payload}, Next} = ws_frame(Conn),
    {term(Payload), Next}.

%% As RFC 7692 has it.
zip(Text) ->
    Z = zlib:open(),
    ok = zlib:deflateInit(Z, default, deflated, -15, 8, default),
    Whole = iolist_to_binary(zlib:deflate(Z, Text, sync)),
    ok = zlib:close(Z),
    binary:part(Whole, 0, byte_size(Whole) - 4).

%%% TLS

%% A certificate that nobody vouches for, and its key, in files of that folder: as a transport is given them.
certificate(Dir) ->
    [Cert, Key] = [filename:join(Dir, F) || F <- ["cert.pem", "key.pem"]],
    %% Signed as clients of today want it.
    Options = [{key, {namedCurve, secp256r1}}, {digest, sha256}],
    Chain = #{root => Options, intermediates => [], peer => Options},
    #{server_config := Server} = public_key:pkix_test_data(#{server_chain => Chain, client_chain => Chain}),
    {KeyType, KeyDer} = proplists:get_value(key, Server),
    ok = file:write_file(Cert, public_key:pem_encode([{'Certificate', proplists:get_value(cert, Server), not_encrypted}])),
    ok = file:write_file(Key, public_key:pem_encode([{KeyType, KeyDer, not_encrypted}])),
    #{certfile => Cert, keyfile => Key}.
