%% @doc What answers where nothing is published: tools that are called, resources and prompts made on request.
%%
%% A handler is a fun of two arguments or a module with `handle/2'. It is given to a transport as its option
%% `handler', or to all of the node's by {@link set/1}. Each call runs in a process of its own, which is killed when
%% its deadline has passed, the client has cancelled, or the session is gone. A tool is called with arguments that its
%% published schema allows; what else a client sends is answered here, with what is wrong and where.
%%
%% One that needs something of the client first replies `{ask, Requests, State}', and is called again for the same
%% request, with the answers as `inputs' and with `state' in its context, in whatever revision the client speaks:
%%
%% ```
%% handle({call_tool, <<"greet">>, _}, #{inputs := #{<<"who">> := #{<<"content">> := #{<<"name">> := Name}}}}) ->
%%     {ok, <<"Hello, ", Name/binary>>};
%% handle({call_tool, <<"greet">>, _}, _) ->
%%     Form = #{type => <<"object">>, properties => #{name => #{type => <<"string">>}}, required => [<<"name">>]},
%%     {ask, #{<<"who">> => {<<"elicitation/create">>, #{message => <<"Who are you?">>, requestedSchema => Form}}}, undefined}.
%% '''
-module(erlmcp_shm_handler).

-include_lib("kernel/include/logger.hrl").

-export([set/1, get/0, start/4, cancel/1, answer/3]).

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
    | {ask, #{Key :: binary() => {Method :: binary(), Params :: map()}}, State :: term()}
    | {error, not_found | {Code :: integer(), Message :: binary()} | Message :: binary()}.
%% `{ok, Map}' is the MCP result of that method. A binary is short for the text of a tool's result or of a resource;
%% a list is that of the templates, or of the values of a completion. `{error, Message}' of a tool is a result
%% with `isError', which the model gets to read; elsewhere it is an internal error. To `ask' there are
%% `elicitation/create', `sampling/createMessage' and `roots/list', where a tool, a resource or a prompt is wanted; what
%% the client has no capability for is refused in its place.

-type context() :: #{
    meta := map(),
    capabilities := map(),
    inputs := #{Key :: binary() => Result :: map()},
    state := term(),
    progress := fun((Progress :: number(), Total :: number() | undefined, Message :: binary()) -> ok),
    log := fun((Level :: binary(), Data :: term()) -> ok)
}.
%% `meta' is the request's `_meta', `capabilities' what the client can be asked. `inputs' are its answers, to be checked
%% like anything that comes from outside; `state' was left by the call that asked, or is `undefined'. `progress' and `log'
%% return once the session has taken what is said, and do nothing for a client that did not ask.

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

-record(keeper, {
    session :: pid(),
    gone :: reference(),
    call :: call(),
    handler :: handler(),
    request :: request(),
    given :: map(),
    deadline :: timeout()
}).

%% How long a client may take to answer what it is asked: there may be a person to it.
-define(ANSWER_MS, 600000).
-define(AGAIN_MS, 1000).

%% @private
%% The caller gets `{erlmcp_shm_reply, Call, reply() | {exit, Reason} | timeout}', and before that any number of
%% `{erlmcp_shm_note, Call, From, Note}', each of which it answers with `From ! {noted, Call}'. `Given' is the context of
%% the handler; with `asks => true' in it the client is asked meanwhile: the caller gets `{erlmcp_shm_ask, Call, Requests}',
%% and says {@link answer/3} for each.
%%
%% Two processes: one that works, and one that cannot be brought down by it and sees to its end.
-spec start(handler(), request(), Given :: map(), Deadline :: timeout()) -> call().
start(Handler, Request, Given, Deadline) ->
    Session = self(),
    Ref = make_ref(),
    Keep = fun() ->
        keep(#keeper{
            session = Session,
            gone = monitor(process, Session),
            call = {self(), Ref},
            handler = Handler,
            request = Request,
            given = Given,
            deadline = Deadline
        })
    end,
    {spawn(Keep), Ref}.

%% @private
-spec cancel(call()) -> ok.
cancel({Keeper, Ref}) ->
    Keeper ! {cancel, Ref},
    ok.

%% @private
-spec answer(call(), Key :: binary(), {ok, map()} | {error, {integer(), binary()}}) -> ok.
answer({Keeper, Ref}, Key, Outcome) ->
    Keeper ! {answer, Ref, Key, Outcome},
    ok.

keep(#keeper{session = Session, call = Call, given = Given} = Keeper) ->
    case work(Keeper) of
        {reply, {ask, #{} = Requests, State}} when map_get(asks, Given) ->
            case asked(Requests, Keeper) of
                {ok, Inputs} -> keep(Keeper#keeper{given = Given#{inputs := Inputs, state := State}});
                {reply, Answer} -> Session ! {erlmcp_shm_reply, Call, Answer};
                nobody -> ok
            end;
        {reply, {exit, Why} = Answer} ->
            ?LOG_ERROR(#{what => handler, request => request_name(Keeper#keeper.request), reason => Why}),
            Session ! {erlmcp_shm_reply, Call, Answer};
        {reply, Answer} ->
            Session ! {erlmcp_shm_reply, Call, Answer};
        nobody ->
            ok
    end.

work(#keeper{session = Session, gone = Gone, call = {_, Ref} = Call, handler = Handler, request = Request, given = Given} = Keeper) ->
    Note = fun(What) -> note(Session, Call, What) end,
    Context = (maps:remove(asks, Given))#{
        progress => fun(Progress, Total, Message) -> Note({progress, Progress, Total, Message}) end,
        log => fun(Level, Data) -> Note({log, Level, Data}) end
    },
    Self = self(),
    {Worker, Working} = spawn_monitor(fun() -> Self ! {done, Ref, handle(Handler, Request, Context)} end),
    Outcome =
        receive
            {done, Ref, Reply} -> {reply, Reply};
            {'DOWN', Working, process, Worker, Reason} -> {reply, {exit, Reason}};
            {'DOWN', Gone, process, Session, _} -> nobody;
            {cancel, Ref} -> nobody
        after Keeper#keeper.deadline -> {reply, timeout}
        end,
    true = demonitor(Working, [flush]),
    exit(Worker, kill),
    Outcome.

%% Who asks nothing wants to be called again, as a client would: after a while.
asked(Requests, #keeper{session = Session, gone = Gone, call = {_, Ref}}) when map_size(Requests) =:= 0 ->
    receive
        {'DOWN', Gone, process, Session, _} -> nobody;
        {cancel, Ref} -> nobody
    after ?AGAIN_MS -> {ok, #{}}
    end;
asked(Requests, #keeper{session = Session, call = Call} = Keeper) ->
    Session ! {erlmcp_shm_ask, Call, Requests},
    ask(maps:keys(Requests), #{}, Keeper).

ask([], Inputs, _) ->
    {ok, Inputs};
ask(Open, Inputs, #keeper{session = Session, gone = Gone, call = {_, Ref}} = Keeper) ->
    receive
        {answer, Ref, Key, {ok, Result}} -> ask(lists:delete(Key, Open), Inputs#{Key => Result}, Keeper);
        {answer, Ref, _, {error, Error}} -> {reply, {error, Error}};
        {'DOWN', Gone, process, Session, _} -> nobody;
        {cancel, Ref} -> nobody
    after ?ANSWER_MS -> {reply, timeout}
    end.

%% In the process of the call, so that its deadline is that of the check as well.
handle(Handler, {call_tool, Name, Arguments} = Request, Context) ->
    case erlmcp_shm_tool_input:check(Name, Arguments) of
        ok -> asked_for(Handler, Request, Context);
        {error, _} = Error -> Error
    end;
handle(Handler, Request, Context) ->
    asked_for(Handler, Request, Context).

asked_for(Handler, Request, Context) when is_function(Handler, 2) -> Handler(Request, Context);
asked_for(Handler, Request, Context) when is_atom(Handler) -> Handler:handle(Request, Context).

%% The worker waits until the session has taken the note: one who reports faster than the client reads waits for it.
note(Session, Call, What) ->
    Session ! {erlmcp_shm_note, Call, self(), What},
    receive
        {noted, Call} -> ok
    end.

request_name(Request) when is_tuple(Request) -> {element(1, Request), element(2, Request)};
request_name(Request) -> Request.
