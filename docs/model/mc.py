# Copyright (c) The vault-plugin-dek authors
# SPDX-License-Identifier: MPL-2.0
"""Tiny explicit-state model checker. Threads are generators; a thread's state is its frames' (pc, locals),
obtained by replaying the results fed to it; interned so equal frames merge."""
import sys, time
from collections import deque
PROGS={}
def prog(f): PROGS[f.__name__]=f; return f
_int={}; _tab=[]; _nxt={}   # framekey->id ; id->(name,args,hist,op) ; (id,res)->id
def _frames(g):
    out=[]
    while g is not None and getattr(g,'gi_frame',None) is not None:
        fr=g.gi_frame; out.append((fr.f_code.co_name,fr.f_lasti,tuple(sorted((k,v) for k,v in fr.f_locals.items() if not k.startswith('_')) ) if False else tuple((k,v) for k,v in sorted(fr.f_locals.items()) )))
        g=g.gi_yieldfrom
    return tuple(out)
def _mk(name,args,hist):
    g=PROGS[name](*args)
    try:
        op=next(g)
        for h in hist: op=g.send(h)
    except StopIteration as e:
        key=('END',name,e.value); op=('end',e.value)
        fk=key
    else: fk=(name,)+_frames(g)
    try: i=_int.get(fk)
    except TypeError: raise Exception('unhashable local in %s: %r'%(name,fk))
    if i is None:
        i=len(_tab); _int[fk]=i; _tab.append((name,args,hist,op))
    return i
def tstart(name,args): 
    k=('S',name,args)
    if k not in _nxt: _nxt[k]=_mk(name,args,())
    return _nxt[k]
def tnext(i,res):
    k=(i,res)
    r=_nxt.get(k)
    if r is None:
        n,a,h,op=_tab[i]; r=_nxt[k]=_mk(n,a,h+(res,))
    return r
class St:
    __slots__=('store','ov','mem','locks','thr','pend','done','err','crash','fresh','ghost')
    def copy(s):
        c=St()
        c.store=dict(s.store); c.ov=dict(s.ov); c.mem=dict(s.mem); c.locks=s.locks; c.thr=dict(s.thr)
        c.pend=s.pend; c.done=s.done; c.err=s.err; c.crash=s.crash; c.fresh=s.fresh; c.ghost=dict(s.ghost); return c
    def key(s):
        return (frozenset(s.store.items()),frozenset(s.ov.items()),frozenset(s.mem.items()),s.locks,frozenset(s.thr.items()),
                s.pend,s.done,s.err,s.crash,s.fresh,frozenset(s.ghost.items()))
class Violation(Exception): pass
NOV=('<absent-in-overlay>',)
def view(s,k):
    return s.ov[k] if k in s.ov else s.store.get(k)
def lsub(s,prefix): return tuple(sorted(k[1] for k in s.store if k[0]==prefix))
class Model:
    # override: clients {slot:(prog,args,after(tuple),retry)}, init(), check(s), rest(s), recover=(prog,args), on_begin..
    err=1; crash=1; recover=None; neverread=('wal','key'); maxstates=3000000; sample=0; evict=False; busytick=False
    clients={}
    def init(self): raise NotImplementedError
    def check(self,s): pass
    def rest(self,s): pass
    def ghost(self,s,slot,op): raise Exception('ghost?')
    def needtick(self,s): return False
    def initial(self):
        s=St(); s.store={};s.ov={};s.mem={};s.locks=();s.thr={};s.pend=tuple(sorted(self.clients));s.done=();s.err=self.err;s.crash=self.crash;s.fresh=10;s.ghost={}
        self.init(s); return s
    def runeager(self,s,slot):
        """advance through eager ops"""
        while slot in s.thr:
            i=s.thr[slot]; op=_tab[i][3]; o=op[0]
            if o=='unlock':
                s.locks=tuple(l for l in s.locks if not(l[0]==op[1] and l[2]==slot)); r=None
            elif o=='unlockall':
                s.locks=tuple(l for l in s.locks if l[2]!=slot); r=None
            elif o=='fresh': s.fresh+=1; r=s.fresh
            elif o=='ghost': r=self.ghost(s,slot,op)
            elif o=='spawn':
                if op[1] not in s.thr:
                    s.thr[op[1]]=tstart(op[2],op[3]); self.runeager(s,op[1])
                r=None
            elif o=='end':
                del s.thr[slot]; s.locks=tuple(l for l in s.locks if l[2]!=slot)
                if slot in self.clients: s.done=tuple(sorted(set(s.done)|{slot}))
                self.ended(s,slot,op[1]); return
            else: return
            s.thr[slot]=tnext(i,r)
    def ended(self,s,slot,val): pass
    def fin(self,s,slot,res):
        s.thr[slot]=tnext(s.thr[slot],res); self.runeager(s,slot); return s
    def oneff(self,s,k,v): pass
    def step(self,s,slot,errs=True):
        i=s.thr[slot]; op=_tab[i][3]; o=op[0]; nm='%s: '%slot
        if o=='get':
            n=s.copy(); v=view(s,op[1]); yield nm+'get %s -> %s%s'%(op[1],v,' (STALE)' if op[1] in s.ov else ''),self.fin(n,slot,v)
        elif o=='list':
            n=s.copy(); v=lsub(s,op[1]); yield nm+'list %s -> %s'%(op[1],v),self.fin(n,slot,v)
        elif o in('put','del'):
            k=op[1]; v=op[2] if o=='put' else None
            def eff(n):
                if v is None: n.store.pop(k,None)
                else: n.store[k]=v
                self.oneff(n,k,v)
            d=nm+'%s %s%s'%(o,k,'' if v is None else ' = %s'%(v,))
            n=s.copy(); eff(n); n.ov.pop(k,None); yield d,self.fin(n,slot,'ok')
            if errs and s.err>0:
                n=s.copy(); n.err-=1; yield d+'  ERROR, no effect',self.fin(n,slot,'err')
                n=s.copy(); n.err-=1; old=view(s,k); eff(n)
                if n.store.get(k)!=old and not (old is None and k not in s.ov and k[0] in self.neverread):
                    n.ov[k]=old
                    yield d+'  ERROR, with effect, cache stale',self.fin(n,slot,'err')
                n=s.copy(); n.err-=1; eff(n)
                if n.store.get(k)!=old:
                    n=s.copy(); n.err-=1; eff(n); n.ov.pop(k,None); yield d+'  ERROR, with effect',self.fin(n,slot,'err')
        elif o=='lock':
            L,m=op[1],op[2]
            for l in s.locks:
                if l[0]==L and (m=='X' or l[1]=='X'): return
            n=s.copy(); n.locks=tuple(sorted(s.locks+((L,m,slot),))); yield nm+'lock %s %s'%(L,m),self.fin(n,slot,None)
        elif o=='mget':
            n=s.copy(); v=s.mem.get(op[1]); yield nm+'mem %s -> %s'%(op[1],v),self.fin(n,slot,v)
        elif o=='mset':
            n=s.copy()
            if op[2] is None: n.mem.pop(op[1],None)
            else: n.mem[op[1]]=op[2]
            yield nm+'mem %s := %s'%(op[1],op[2]),self.fin(n,slot,None)
        elif o=='mfun':   # atomic memory function
            n=s.copy(); r=getattr(self,op[1])(n,*op[2:]); yield nm+'mem %s -> %s'%(op[1:],r),self.fin(n,slot,r)
        elif o=='join':
            if any(x in s.thr for x in op[1]): return
            n=s.copy(); yield nm+'joined',self.fin(n,slot,None)
        elif o=='nop':
            n=s.copy(); yield nm+'nop',self.fin(n,slot,None)
        elif o=='wait':
            if getattr(self,op[1])(s): n=s.copy(); yield nm+'waited '+op[1],self.fin(n,slot,None)
        else: raise Exception(op)
    def docrash(self,s,kind):
        n=s.copy(); 
        infl=[c for c in self.clients if c in n.thr]
        n.thr={}; n.locks=(); n.mem={}
        if kind=='vault': n.ov={}
        for c in infl:
            if self.clients[c][3] and c+'~re' not in n.done: n.pend=tuple(sorted(n.pend+(c,))); n.done=tuple(sorted(set(n.done)|{c+'~re'}))
            else: n.done=tuple(sorted(set(n.done)|{c}))
        self.crashed(n,infl)
        if self.recover: n.thr['recover']=tstart(*self.recover); self.runeager(n,'recover')
        return n
    def crashed(self,s,infl): pass
    def succ(self,s,errs=True,crash=True):
        for slot in list(s.thr): yield from self.step(s,slot,errs)
        for c in s.pend:
            p,a,after,_=self.clients[c]
            if all(x in s.done for x in after):
                n=s.copy(); n.pend=tuple(x for x in s.pend if x!=c); n.thr[c]=tstart(p,a); self.runeager(n,c); yield '%s: begins'%c,n
        if crash and s.crash>0:
            n=self.docrash(s,'plugin'); n.crash-=1; yield '*** plugin crashes (Vault cache survives)',n
            if s.ov or True:
                if s.ov: n=self.docrash(s,'vault'); n.crash-=1; yield '*** Vault crashes (cache gone)',n
        if self.evict:
            for k in s.ov: n=s.copy(); n.ov.pop(k); yield "Vault's cache drops %s"%(k,),n
        if (not s.thr and not s.pend or self.busytick and not({'recover','worker'}&s.thr.keys())) and self.recover and self.needtick(s):
            n=s.copy(); n.thr['recover']=tstart(*self.recover); self.runeager(n,'recover'); yield 'tick',n
    def torest(self,s,lim=600):
        """deterministic run without faults or new clients, to rest"""
        n=0; s=s.copy(); s.pend=(); ticks=0; tr=[]
        while n<lim:
            n+=1
            if not s.thr:
                if self.needtick(s) and ticks<3:
                    ticks+=1; s=s.copy(); s.thr['recover']=tstart(*self.recover); self.runeager(s,'recover'); continue
                return s,tr
            for slot in sorted(s.thr, key=lambda x:(x!='recover',str(x))):
                x=list(self.step(s,slot,False))
                if x: 
                    tr.append(x[0][0]); s=x[0][1]; break
            else: raise Violation('deadlock on the way to rest: %s'%[(k,_tab[v][3]) for k,v in s.thr.items()])
        raise Violation('no rest after %d steps: %s'%(lim,tr[-8:]))
    def run(self,name='',quiet=False,tmax=150,dfs=False):
        t0=time.time(); s=self.initial(); k0=s.key(); par={k0:None}; q=deque([(s,k0)]); n=0; trans=0; rests=0
        def trace(k,extra=()):
            out=list(extra)[::-1]
            while par[k] is not None: k,l=par[k]; out.append(l)
            return out[::-1]
        res=None
        while q:
            s,k=q.pop() if dfs else q.popleft(); n+=1
            ex=[]
            try:
                self.check(s)
                nsucc=0
                for l,m in self.succ(s):
                    nsucc+=1; trans+=1
                    mk=m.key()
                    if mk not in par:
                        par[mk]=(k,l); q.append((m,mk))
                if s.thr and not any(True for sl in s.thr for _ in self.step(s,sl,False)) :
                    raise Violation('deadlock: %s'%[(x,_tab[v][3]) for x,v in s.thr.items()])
                if not s.thr and not s.pend and not self.needtick(s): rests+=1; self.rest(s)
                if self.sample and n%self.sample==0:
                    for kind in ('plugin','vault') if s.ov else ('plugin',):
                        c=self.docrash(s,kind); ex=['(sampled) crash of '+kind+', recovery to rest']
                        r,tr=self.torest(c); ex+=tr; self.check(r); self.rest(r)
                    ex=[]
            except Violation as e:
                res=(str(e),trace(k,ex)); break
            if time.time()-t0>tmax or len(par)>self.maxstates:
                res='TRUNCATED'; break
        dt=time.time()-t0
        if res is None: print('[%s] HOLDS: %d states, %d transitions, %d rest states, %.0fs'%(name,n,trans,rests,dt))
        elif res=='TRUNCATED': print('[%s] no violation, TRUNCATED: %d states expanded (%d seen), %.0fs'%(name,n,len(par),dt))
        else:
            print('[%s] VIOLATION after %d states (%.0fs): %s'%(name,n,dt,res[0]))
            if not quiet:
                for l in res[1]: print('     ',l)
        sys.stdout.flush(); return res
