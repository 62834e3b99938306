%% @doc What a transport is: a process that carries MCP messages between this node and its peers.
%%
%% `stdio' has one peer. The others listen, and each session that is connected is a peer: what is sent goes to
%% every one of them. Each whole message that comes in goes to the owner as `{transport_message, Pid, Bin}'.
%%
%% A transport is a process that ends when it can carry nothing any more, with a reason that says why, and is
%% then started anew; `normal', `shutdown' and `{shutdown, _}' say that there is no use in that, as when
%% standard input is at its end. A listener does not end because a peer went away.
-module(erlmcp_shm_transport).

-export([module/1, send/2, call/3]).

-export_type([type/0, info/0, lacking/0]).

-type type() :: stdio | http | websocket | sse.

-type info() :: #{type := type(), peers := non_neg_integer(), atom() => term()}.

-type lacking() :: {missing_application, atom()}.
%% Why a transport cannot start, and will not as long as the node is what it is.

%% Returns when the transport can be sent to: a listener listens. An error is tried again, unless it is `lacking()'.
-callback start_link(Config :: map(), Owner :: pid()) -> {ok, pid()} | {error, term()}.

%% `ok': taken, that is, in the bounded queue of every peer there is. Anything else: nobody got it.
%% `no_peer' says that nobody is connected, which is no fault of the transport's.
-callback send(Pid :: pid(), Data :: iodata()) -> ok | {error, no_peer | term()}.

%% Lets what is queued go out and ends. Returns once the process is gone.
-callback close(Pid :: pid()) -> ok.

-callback get_info(Pid :: pid()) -> info().

%% A round trip through whatever would serve a peer; the time is that of the round trip alone.
-callback probe(Pid :: pid(), Timeout :: timeout()) ->
    {ok, LatencyMs :: float()} | {error, term()}.

%% @doc The module that carries a type of transport.
-spec module(type()) -> module().
module(stdio) -> erlmcp_shm_transport_stdio;
module(http) -> erlmcp_shm_transport_http;
module(websocket) -> erlmcp_shm_transport_ws;
module(sse) -> erlmcp_shm_transport_sse.

%% @private
%% What a transport's process takes to send. That the process ends meanwhile is told by an exit: nobody knows whether it
%% had sent anything.
-spec send(pid(), iodata()) -> ok | {error, term()}.
send(Pid, Data) ->
    Message = iolist_to_binary(Data),
    try
        gen_server:call(Pid, {send, Message}, infinity)
    catch
        %% It had ended before.
        exit:{noproc, _} -> {error, closed}
    end.

%% @private
%% Anything else that it is asked, and what it comes to where there is no process any more.
-spec call(pid(), Request :: term(), Gone) -> term() | Gone.
call(Pid, Request, Gone) ->
    try
        gen_server:call(Pid, Request, infinity)
    catch
        exit:_ -> Gone
    end.
