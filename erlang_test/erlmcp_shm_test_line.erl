%% A stand-in for erlmcp's TCP transport, and for its stdio transport: with the same functions, asked and telling with the
%% same messages. It connects to `port' again and again; `hangs => true' never answers what is sent.
-module(erlmcp_shm_test_line).

-behaviour(gen_server).

-export([start_link/1, start_link/2, send/2]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

start_link(Owner) when is_pid(Owner) -> start_link(Owner, #{});
start_link(Options) -> gen_server:start_link(?MODULE, Options, []).

start_link(Owner, Options) ->
    gen_server:start_link(?MODULE, Options#{owner => Owner}, []).

%% Of stdio.
send(Pid, Message) ->
    gen_server:call(Pid, {print, Message}).

init(#{refuses := Reason}) ->
    {stop, Reason};
init(#{port := _} = Options) ->
    self() ! connect,
    {ok, {Options, none}};
init(Options) ->
    {ok, {Options, none}}.

handle_call({send, _}, _From, {#{hangs := true}, _} = State) ->
    {noreply, State};
handle_call({send, _}, _From, {_, none} = State) ->
    {reply, {error, not_connected}, State};
handle_call({send, Data}, _From, {_, Socket} = State) ->
    {reply, gen_tcp:send(Socket, [Data, "\n"]), State};
handle_call({print, Message}, _From, {#{owner := Owner}, _} = State) ->
    Owner ! {transport_message, <<"printed ", Message/binary>>},
    {reply, ok, State};
handle_call({simulate_input, Line}, _From, {#{owner := Owner}, _} = State) ->
    Owner ! {transport_message, Line},
    {reply, ok, State};
handle_call(get_state, _From, State) ->
    {reply, {ok, State}, State};
handle_call(_, _From, State) ->
    {reply, {error, unknown_request}, State}.

handle_cast(_, State) ->
    {noreply, State}.

handle_info(connect, {#{port := Port, owner := Owner} = Options, none}) ->
    case gen_tcp:connect({127, 0, 0, 1}, Port, [binary, {packet, line}, {active, true}]) of
        {ok, Socket} ->
            Owner ! {transport_connected, self()},
            {noreply, {Options, Socket}};
        {error, _} ->
            _ = erlang:send_after(20, self(), connect),
            {noreply, {Options, none}}
    end;
handle_info({tcp, _, Line}, {#{owner := Owner}, _} = State) ->
    Owner ! {transport_message, binary:part(Line, 0, byte_size(Line) - 1)},
    {noreply, State};
handle_info({tcp_closed, _}, {#{owner := Owner} = Options, _}) ->
    Owner ! {transport_disconnected, self(), normal},
    _ = erlang:send_after(20, self(), connect),
    {noreply, {Options, none}};
handle_info({end_with, Reason}, State) ->
    {stop, Reason, State};
handle_info(_, State) ->
    {noreply, State}.
