%% The other side of erlmcp_shm_test_transport: a TCP server that keeps what it is told, line by line, and answers
%% `ping' with `pong'. Stopped, it closes its port and all connections.
-module(erlmcp_shm_test_peer).

-export([start/0, start/1, stop/1, port/1, lines/1, say/2, slow/2]).

-record(peer, {pid, port, table}).

start() ->
    start(0).

start(Port) ->
    Self = self(),
    Pid = spawn(fun() -> listen(Port, Self) end),
    receive
        {Pid, Actual, Table} -> #peer{pid = Pid, port = Actual, table = Table}
    end.

stop(#peer{pid = Pid}) ->
    Monitor = monitor(process, Pid),
    exit(Pid, kill),
    receive
        {'DOWN', Monitor, process, Pid, _} -> ok
    end.

port(#peer{port = Port}) -> Port.

%% How often each line came.
lines(#peer{table = Table}) ->
    maps:from_list([{Line, N} || {Line, N} <- ets:tab2list(Table), is_binary(Line)]).

%% To whoever is connected and has said something.
say(#peer{table = Table}, Line) ->
    [gen_tcp:send(Socket, [Line, $\n]) || {{socket, Socket}, _} <- ets:tab2list(Table)].

%% Answers to pings take so long.
slow(#peer{table = Table}, Ms) ->
    ets:insert(Table, {slow, Ms}).

%% The table outlives its peer: it belongs to nobody who is stopped.
listen(Port, Starter) ->
    Self = self(),
    Keeper = spawn(fun() ->
        Self ! {self(), ets:new(?MODULE, [public])},
        Monitor = monitor(process, Starter),
        receive
            {'DOWN', Monitor, process, _, _} -> ok
        end
    end),
    Table =
        receive
            {Keeper, T} -> T
        end,
    ets:insert(Table, {slow, 0}),
    {ok, Listen} = gen_tcp:listen(Port, [
        binary, {active, false}, {packet, line}, {reuseaddr, true}, {ip, {127, 0, 0, 1}}, {backlog, 1024}, {buffer, 65536}
    ]),
    {ok, Actual} = inet:port(Listen),
    Starter ! {Self, Actual, Table},
    accept(Listen, Table).

accept(Listen, Table) ->
    {ok, Socket} = gen_tcp:accept(Listen),
    Pid = spawn_link(fun() ->
        receive
            go -> read(Socket, Table)
        end
    end),
    ok = gen_tcp:controlling_process(Socket, Pid),
    Pid ! go,
    accept(Listen, Table).

read(Socket, Table) ->
    case gen_tcp:recv(Socket, 0) of
        {ok, <<"ping\n">>} ->
            [{slow, Ms}] = ets:lookup(Table, slow),
            timer:sleep(Ms),
            _ = gen_tcp:send(Socket, <<"pong\n">>),
            read(Socket, Table);
        {ok, Line} ->
            ets:insert(Table, {{socket, Socket}, 1}),
            ets:update_counter(Table, binary:part(Line, 0, byte_size(Line) - 1), 1, {Line, 0}),
            read(Socket, Table);
        {error, _} ->
            ets:delete(Table, {socket, Socket}),
            ok
    end.
