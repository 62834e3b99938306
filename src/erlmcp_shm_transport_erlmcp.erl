%% @doc One of erlmcp's own transports, behind the behaviour of ours, on a node that has erlmcp:
%%
%% ```
%% #{type => stdio, module => erlmcp_shm_transport_erlmcp,
%%   config => #{transport => tcp, options => #{host => "localhost", port => 4000}}}
%% '''
%%
%% `transport' is `stdio', `tcp' or `http', those whose messages go to an owner in any version; `options' is what it takes
%% there. (Its WebSocket and SSE talk to erlmcp's registry only.) What comes in is the owner's to answer, as
%% `{transport_message, Pid, Bin}'; no endpoint of ours stands in between. Not compiled against erlmcp: where it
%% is missing, the start is `{error, {no_erlmcp, Module}}'.
%%
%% A message is sent in a process of its own, for `send_timeout' at most; whether one that took longer was sent nobody
%% knows, so the caller exits. Text that is not ASCII is escaped for `stdio', which would encode it a second time.
-module(erlmcp_shm_transport_erlmcp).

-behaviour(erlmcp_shm_transport).
-behaviour(gen_server).

-export([check/2, start_link/2, send/2, close/1, get_info/1, probe/2]).

-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-export_type([config/0]).

-type config() :: #{transport := stdio | tcp | http, options := map(), send_timeout := pos_integer()}.

-record(state, {
    config :: config(),
    owner :: pid(),
    %% erlmcp's process, and who is connected: that very process, or one for each connection.
    inner :: pid(),
    peers :: #{pid() => reference() | self},
    received = 0 :: non_neg_integer()
}).

-define(MAX_MS, 16#FFFFFFFF).
-define(STOP_MS, 5000).

%%% The behaviour

%% @private
%% Throws as erlmcp_shm_check does.
-spec check(term(), Path :: list()) -> config().
check(Config, Path) ->
    Keys = [
        {transport, {one_of, [stdio, tcp, http]}, undefined},
        {options, fun options/1, #{}},
        {send_timeout, {integer, 1, ?MAX_MS}, 5000}
    ],
    erlmcp_shm_check:table(Config, Keys, Path, Path).

options(#{} = Options) -> {ok, Options};
options(_) -> error.

-spec start_link(map(), pid()) -> {ok, pid()} | {error, {no_erlmcp, module()} | {unsupported, module()} | term()}.
start_link(Config, Owner) ->
    case erlmcp_shm_check:checked(fun() -> check(Config, [config]) end) of
        {ok, Checked} ->
            case gen_server:start_link(?MODULE, {Checked, Owner}, []) of
                {ok, _} = Ok -> Ok;
                {error, _} = Error -> Error;
                ignore -> {error, ignore}
            end;
        {error, _} = Error ->
            Error
    end.

-spec send(pid(), iodata()) -> ok | {error, term()}.
send(Pid, Data) ->
    Message = one_line(iolist_to_binary(Data)),
    case call(Pid, peers, {error, closed}) of
        {error, closed} -> {error, closed};
        {[], _} -> {error, no_peer};
        {Peers, Config} -> sent([send_one(Peer, Message, Config) || Peer <- Peers])
    end.

-spec close(pid()) -> ok.
close(Pid) ->
    try
        gen_server:stop(Pid, normal, 2 * ?STOP_MS)
    catch
        exit:_ -> ok
    end.

-spec get_info(pid()) -> erlmcp_shm_transport:info().
get_info(Pid) ->
    call(Pid, get_info, #{type => stdio, peers => 0, state => closed}).

%% @doc What every transport of erlmcp answers, known question or not.
-spec probe(pid(), timeout()) -> {ok, float()} | {error, term()}.
probe(Pid, Timeout) ->
    case call(Pid, inner, {error, closed}) of
        {error, closed} ->
            {error, closed};
        {_Inner, 0} ->
            {error, not_connected};
        {Inner, _} ->
            Start = erlang:monotonic_time(),
            try
                _ = gen_server:call(Inner, get_state, Timeout),
                {ok, (erlang:monotonic_time() - Start) / erlang:convert_time_unit(1, millisecond, native)}
            catch
                exit:{timeout, _} -> {error, timeout};
                exit:_ -> {error, closed}
            end
    end.

call(Pid, Request, Gone) ->
    try
        gen_server:call(Pid, Request, infinity)
    catch
        exit:_ -> Gone
    end.

%%% Sending, in the caller's process

%% Taken by one is taken: who asks again would say it twice.
sent(Results) ->
    case {lists:member(ok, Results), [Reason || {unconfirmed, Reason} <- Results]} of
        {true, _} -> ok;
        {false, [Reason | _]} -> exit(Reason);
        {false, []} -> hd(Results)
    end.

send_one(Peer, Message, #{transport := Transport, send_timeout := Ms}) ->
    case erlmcp_shm_deadline:run(fun() -> hand_over(Transport, Peer, Message) end, Ms) of
        {ok, ok} -> ok;
        {ok, {error, not_connected}} -> {error, no_peer};
        {ok, {error, _} = Error} -> Error;
        {ok, Other} -> {error, {bad_answer, Other}};
        {error, {noproc, _}} -> {error, closed};
        {error, Reason} -> {unconfirmed, Reason}
    end.

%% `send/2' of stdio writes in the process that calls it; that of others takes a process in some versions, and a
%% state in others, but what it asks the process is the same in all.
hand_over(stdio, Peer, Message) ->
    send(module(stdio), Peer, ascii(Message));
hand_over(_, Peer, Message) ->
    gen_server:call(Peer, {send, Message}, infinity).

send(Module, Peer, Message) ->
    Module:send(Peer, Message).

%% Line breaks stand between tokens only, in JSON; what is not ASCII, in strings only.
one_line(Message) ->
    binary:replace(Message, [<<"\n">>, <<"\r">>], <<" ">>, [global]).

ascii(Message) ->
    case unicode:characters_to_list(Message) of
        Characters when is_list(Characters) -> << <<(escaped(C))/binary>> || C <- Characters >>;
        _ -> Message
    end.

escaped(C) when C < 128 ->
    <<C>>;
escaped(C) ->
    << <<(unit(Unit))/binary>> || <<Unit:16>> <= unicode:characters_to_binary([C], unicode, utf16) >>.

unit(Unit) ->
    iolist_to_binary(io_lib:format("\\u~4.16.0b", [Unit])).

%%% The process: erlmcp's owner, who passes on

%% @private
-spec init({config(), pid()}) -> {ok, #state{}} | {stop, term()}.
init({#{transport := Transport, options := Options} = Config, Owner}) ->
    _ = process_flag(trap_exit, true),
    Module = module(Transport),
    case code:ensure_loaded(Module) of
        {module, Module} ->
            try start(Module, Transport, Options) of
                {ok, Inner} when is_pid(Inner) ->
                    {ok, #state{config = Config, owner = Owner, inner = Inner, peers = first_peers(Transport, Inner)}};
                {error, Reason} ->
                    {stop, Reason};
                Other ->
                    {stop, {bad_answer, Other}}
            catch
                error:undef -> {stop, {unsupported, Module}}
            end;
        {error, _} ->
            {stop, {no_erlmcp, Module}}
    end.

module(stdio) -> erlmcp_transport_stdio;
module(tcp) -> erlmcp_transport_tcp;
module(http) -> erlmcp_transport_http.

start(Module, stdio, Options) ->
    case erlang:function_exported(Module, start_link, 2) of
        true -> Module:start_link(self(), Options);
        false -> Module:start_link(self())
    end;
start(Module, _, Options) ->
    Module:start_link(Options#{owner => self()}).

%% TCP says who is connected.
first_peers(tcp, _) -> #{};
first_peers(_, Inner) -> #{Inner => self}.

%% @private
-spec handle_call(term(), gen_server:from(), #state{}) -> {reply, term(), #state{}}.
handle_call(peers, _From, #state{peers = Peers, config = Config} = State) ->
    {reply, {maps:keys(Peers), Config}, State};
handle_call(inner, _From, #state{inner = Inner, peers = Peers, config = #{options := Options}} = State) ->
    %% A listener is well without anybody.
    case Options of
        #{mode := server} -> {reply, {Inner, listener}, State};
        _ -> {reply, {Inner, maps:size(Peers)}, State}
    end;
handle_call(get_info, _From, #state{peers = Peers, received = Received, config = #{transport := Transport}} = State) ->
    {reply, #{type => type(Transport), erlmcp => module(Transport), peers => maps:size(Peers), received => Received}, State};
handle_call(_Request, _From, State) ->
    {reply, {error, unknown_call}, State}.

%% Of ours the nearest: a message a line.
type(tcp) -> stdio;
type(Transport) -> Transport.

%% @private
-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Message, State) ->
    {noreply, State}.

%% @private
-spec handle_info(term(), #state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
handle_info({transport_message, Data}, #state{owner = Owner, received = Received} = State) ->
    Owner ! {transport_message, self(), iolist_to_binary(Data)},
    {noreply, State#state{received = Received + 1}};
handle_info({transport_connected, Peer}, #state{peers = Peers} = State) when not is_map_key(Peer, Peers) ->
    {noreply, State#state{peers = Peers#{Peer => monitor(process, Peer)}}};
handle_info({transport_disconnected, Peer, _Reason}, State) ->
    {noreply, gone(Peer, State)};
handle_info({'DOWN', _, process, Peer, _}, State) ->
    {noreply, gone(Peer, State)};
handle_info({'EXIT', Inner, Reason}, #state{inner = Inner} = State) ->
    case Reason of
        normal -> {stop, {shutdown, closed}, State};
        _ -> {stop, Reason, State}
    end;
handle_info({'EXIT', _Linked, Reason}, State) when Reason =/= normal ->
    {stop, Reason, State};
handle_info(_Message, State) ->
    {noreply, State}.

gone(Peer, #state{peers = Peers} = State) ->
    _ = [demonitor(Monitor, [flush]) || #{Peer := Monitor} <- [Peers], is_reference(Monitor)],
    State#state{peers = maps:remove(Peer, Peers)}.

%% @private
-spec terminate(term(), #state{}) -> ok.
terminate(_Reason, #state{inner = Inner}) ->
    try
        gen_server:stop(Inner, shutdown, ?STOP_MS)
    catch
        exit:_ -> true = exit(Inner, kill)
    end,
    ok.
