%% A transport for the gateway's suites: a line of TCP to one peer, at `port' on this host. It does not start without
%% its peer, says `connection_lost' while the peer is away, and finds it again. `port => none' is a transport
%% with nobody connected. `close => hangs' is one that does not close.
-module(erlmcp_shm_test_transport).

-behaviour(erlmcp_shm_transport).
-behaviour(gen_server).

-export([start_link/2, send/2, close/1, get_info/1, probe/2]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

start_link(Config, Owner) ->
    gen_server:start_link(?MODULE, {Config, Owner}, []).

send(Pid, Data) ->
    gen_server:call(Pid, {send, Data}).

close(Pid) ->
    case gen_server:call(Pid, close_how) of
        hangs -> timer:sleep(infinity);
        _ -> gen_server:stop(Pid)
    end.

get_info(Pid) ->
    gen_server:call(Pid, info).

probe(Pid, Timeout) ->
    case gen_server:call(Pid, port) of
        none -> {ok, 0.1};
        Port -> ping(Port, Timeout)
    end.

ping(Port, Timeout) ->
    Start = erlang:monotonic_time(microsecond),
    case connect(Port) of
        {ok, Socket} ->
            ok = gen_tcp:send(Socket, <<"ping\n">>),
            ok = inet:setopts(Socket, [{active, false}]),
            Answer = gen_tcp:recv(Socket, 0, Timeout),
            ok = gen_tcp:close(Socket),
            case Answer of
                {ok, <<"pong\n">>} -> {ok, (erlang:monotonic_time(microsecond) - Start) / 1000};
                {error, _} = Error -> Error
            end;
        {error, _} = Error ->
            Error
    end.

connect(Port) ->
    gen_tcp:connect({127, 0, 0, 1}, Port, [binary, {packet, line}, {active, true}, {nodelay, true}], 1000).

%%%

init({#{port := none} = Config, Owner}) ->
    {ok, {Config, Owner, none}};
init({#{port := Port} = Config, Owner}) ->
    case connect(Port) of
        {ok, Socket} -> {ok, {Config, Owner, Socket}};
        {error, Reason} -> {stop, Reason}
    end.

handle_call({send, _}, _From, {#{port := none}, _, none} = State) ->
    {reply, {error, no_peer}, State};
handle_call({send, Data}, _From, State) ->
    case connected(State) of
        {_, _, none} = Lost ->
            {reply, {error, connection_lost}, Lost};
        {_, _, Socket} = Connected ->
            case gen_tcp:send(Socket, [Data, $\n]) of
                ok -> {reply, ok, Connected};
                {error, _} -> {reply, {error, connection_lost}, lost(Connected)}
            end
    end;
handle_call(info, _From, {#{type := Type}, _, Socket} = State) ->
    {reply, #{type => Type, peers => length([Socket || Socket =/= none])}, State};
handle_call(port, _From, {#{port := Port}, _, _} = State) ->
    {reply, Port, State};
handle_call(close_how, _From, {Config, _, _} = State) ->
    {reply, maps:get(close, Config, stops), State}.

handle_cast(_, State) ->
    {noreply, State}.

handle_info({tcp, _, Line}, {_, Owner, _} = State) ->
    Owner ! {transport_message, self(), binary:part(Line, 0, byte_size(Line) - 1)},
    {noreply, State};
handle_info({tcp_closed, Socket}, {_, _, Socket} = State) ->
    {noreply, lost(State)};
handle_info({end_with, Reason}, State) ->
    {stop, Reason, State};
handle_info(_, State) ->
    {noreply, State}.

connected({#{port := Port} = Config, Owner, none}) ->
    case connect(Port) of
        {ok, Socket} -> {Config, Owner, Socket};
        {error, _} -> {Config, Owner, none}
    end;
connected(State) ->
    State.

lost({Config, Owner, Socket}) ->
    ok = gen_tcp:close(Socket),
    {Config, Owner, none}.
