%% @doc What answers where nothing is published: tools that are called, resources and prompts made on request.
%%
%% A handler is a fun of two arguments or a module with `handle/2'. It is given to a transport as its option
%% `handler', or to all of the node's by {@link set/1}. Each call runs in a process of its own, which is killed when
%% its deadline has passed, the client has cancelled, or the session is gone.
-module(erlmcp_shm_handler).

-include_lib("kernel/include/logger.hrl").

-export([set/1, get/0, start/4, cancel/1]).

-export_type([handler/0, request/0, reply/0, context/0, call/0]).

-type handler() :: fun((request(), context()) -> reply()) | module().

-type request() ::
    {call_tool, Name :: binary(), Arguments :: map()}
    | {read_resource, Uri :: binary()}
    | {get_prompt, Name :: binary(), Arguments :: map()}
    | list_resource_templates
    | {complete, Reference :: map(), Argument :: map(), Context :: map()}.

-type reply() ::
    {ok, erlmcp_shm_nif:json() | binary() | [map()]}
    | {error, not_found | {Code :: integer(), Message :: binary()} | Message :: binary()}.
%% `{ok, Map}' is the MCP result of that method. A binary is short for the text of a tool's result or of a resource;
%% a list is that of the templates, or of the values of a completion. `{error, Message}' of a tool is a result
%% with `isError', which the model gets to read; elsewhere it is an internal error.

-type context() :: #{
    meta := map(),
    progress := fun((Progress :: number(), Total :: number() | undefined, Message :: binary()) -> ok),
    log := fun((Level :: binary(), Data :: term()) -> ok)
}.
%% `meta' is the request's `_meta'. `progress' and `log' return once the session has taken what is said,
%% and do nothing for a client that did not ask.

-type call() :: {pid(), reference()}.

-callback handle(request(), context()) -> reply().

%% @doc The handler of every transport of this node that has none of its own.
-spec set(handler() | undefined) -> ok.
set(Handler) ->
    persistent_term:put(?MODULE, Handler).

%% @private
-spec get() -> handler() | undefined.
get() ->
    persistent_term:get(?MODULE, undefined).

%% @private
%% The caller gets `{erlmcp_shm_reply, Call, reply() | {exit, Reason} | timeout}', and before that any number of
%% `{erlmcp_shm_note, Call, From, Note}', each of which it answers with `From ! {noted, Call}'.
%%
%% Two processes: one that works, and one that cannot be brought down by it and sees to its end.
-spec start(handler(), request(), Meta :: map(), Deadline :: timeout()) -> call().
start(Handler, Request, Meta, Deadline) ->
    Session = self(),
    Ref = make_ref(),
    {spawn(fun() -> keep(Session, Ref, Handler, Request, Meta, Deadline) end), Ref}.

%% @private
-spec cancel(call()) -> ok.
cancel({Keeper, Ref}) ->
    Keeper ! {cancel, Ref},
    ok.

keep(Session, Ref, Handler, Request, Meta, Deadline) ->
    Gone = monitor(process, Session),
    Call = {self(), Ref},
    Note = fun(What) -> note(Session, Call, What) end,
    Context = #{
        meta => Meta,
        progress => fun(Progress, Total, Message) -> Note({progress, Progress, Total, Message}) end,
        log => fun(Level, Data) -> Note({log, Level, Data}) end
    },
    Keeper = self(),
    {Worker, Working} = spawn_monitor(fun() -> Keeper ! {done, Ref, handle(Handler, Request, Context)} end),
    Outcome =
        receive
            {done, Ref, Reply} -> {reply, Reply};
            {'DOWN', Working, process, Worker, Reason} -> {reply, {exit, Reason}};
            {'DOWN', Gone, process, Session, _} -> nobody;
            {cancel, Ref} -> nobody
        after Deadline -> {reply, timeout}
        end,
    exit(Worker, kill),
    case Outcome of
        {reply, {exit, Why} = Answer} ->
            ?LOG_ERROR(#{what => handler, request => request_name(Request), reason => Why}),
            Session ! {erlmcp_shm_reply, Call, Answer};
        {reply, Answer} ->
            Session ! {erlmcp_shm_reply, Call, Answer};
        nobody ->
            ok
    end.

handle(Handler, Request, Context) when is_function(Handler, 2) -> Handler(Request, Context);
handle(Handler, Request, Context) when is_atom(Handler) -> Handler:handle(Request, Context).

%% The worker waits until the session has taken the note: one who reports faster than the client reads waits for it.
note(Session, Call, What) ->
    Session ! {erlmcp_shm_note, Call, self(), What},
    receive
        {noted, Call} -> ok
    end.

request_name(Request) when is_tuple(Request) -> {element(1, Request), element(2, Request)};
request_name(Request) -> Request.
