%% A WebSocket client as small as it gets: it listens.
-module(erlmcp_shm_test_ws).

-export([read_for_ever/3]).

%% Each text message goes to the fun; when the connection ends, a new one is made.
read_for_ever(Port, Path, Fun) ->
    case gen_tcp:connect({127, 0, 0, 1}, Port, [binary, {active, false}], 1000) of
        {ok, Socket} ->
            Key = base64:encode(rand:bytes(16)),
            ok = gen_tcp:send(Socket, [
                ["GET ", Path, " HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n"],
                ["sec-websocket-version: 13\r\nsec-websocket-key: ", Key, "\r\n\r\n"]
            ]),
            _ = upgraded(Socket, <<>>, Fun),
            ok = gen_tcp:close(Socket);
        {error, _} ->
            ok
    end,
    timer:sleep(5),
    read_for_ever(Port, Path, Fun).

upgraded(Socket, Head, Fun) ->
    case binary:split(Head, <<"\r\n\r\n">>) of
        [<<"HTTP/1.1 101", _/binary>>, Rest] -> frames(Socket, Rest, Fun);
        [_, _] -> refused;
        [_] -> more(Socket, Head, fun(Longer) -> upgraded(Socket, Longer, Fun) end)
    end.

%% Whole ones, unmasked, as servers send them.
frames(Socket, <<1:1, 0:3, Opcode:4, 0:1, 127:7, Length:64, Data:Length/binary, Rest/binary>>, Fun) ->
    frame(Socket, Opcode, Data, Rest, Fun);
frames(Socket, <<1:1, 0:3, Opcode:4, 0:1, 126:7, Length:16, Data:Length/binary, Rest/binary>>, Fun) ->
    frame(Socket, Opcode, Data, Rest, Fun);
frames(Socket, <<1:1, 0:3, Opcode:4, 0:1, Length:7, Data:Length/binary, Rest/binary>>, Fun) when Length < 126 ->
    frame(Socket, Opcode, Data, Rest, Fun);
frames(Socket, Part, Fun) ->
    more(Socket, Part, fun(Longer) -> frames(Socket, Longer, Fun) end).

frame(Socket, 1, Text, Rest, Fun) ->
    _ = Fun(Text),
    frames(Socket, Rest, Fun);
frame(_Socket, 8, _Close, _Rest, _Fun) ->
    closed;
frame(Socket, _Ping, _Data, Rest, Fun) ->
    frames(Socket, Rest, Fun).

more(Socket, Part, Fun) ->
    case gen_tcp:recv(Socket, 0) of
        {ok, Data} -> Fun(<<Part/binary, Data/binary>>);
        {error, _} = Error -> Error
    end.
